import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.app import running_broker
from broker.auth.keys import load_keys
from broker.auth.tokens import Tokens
from broker.domain.scopes import Scopes, parse_scopes
from broker.http.waiting import WaitingRoom
from broker.settings import load_settings
from tests.support.api import Api
from tests.support.waiting import until

Grid = tuple[Api, Api]
"""The first user's calls and the first launcher's."""
Parked = Callable[[int], Awaitable[None]]
"""Waits until so many launchers wait."""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractAsyncContextManager[Grid]]:
    """Start a broker over this test's data folder, as often as the test likes."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    @asynccontextmanager
    async def started() -> AsyncIterator[Grid]:
        settings = load_settings({"data": tmp_path / "data", "listen": "127.0.0.1:0", "user": "alice"})
        async with running_broker(settings) as url, aiohttp.ClientSession() as http:
            yield tuple(Api(http, url, _token(tmp_path, name)) for name in ("login.json", "launcher.json"))  # type: ignore[misc] # two

    return started


@pytest.fixture
async def grid(start: Callable[[], AbstractAsyncContextManager[Grid]], parked: Parked) -> AsyncIterator[Grid]:
    async with start() as grid:
        yield grid


@pytest.fixture
def user(grid: Grid) -> Api:
    return grid[0]


@pytest.fixture
def launcher(grid: Grid) -> Api:
    return grid[1]


@pytest.fixture
def parked(monkeypatch: pytest.MonkeyPatch) -> Parked:
    """Look into the broker's waiting room: from outside, nobody can tell whether a request is parked yet."""
    rooms: list[WaitingRoom] = []
    make = WaitingRoom.__init__

    def remember(room: WaitingRoom, *args: Any, **more: Any) -> None:
        make(room, *args, **more)
        rooms.append(room)

    monkeypatch.setattr(WaitingRoom, "__init__", remember)

    async def wait(count: int) -> None:
        async def are_there() -> bool:
            return bool(rooms) and rooms[-1].parked == count

        await until(are_there, f"{count} launchers wait")

    return wait


@pytest.fixture
def issue(tmp_path: Path) -> Callable[..., str]:
    """Issue a token with the broker's own key."""

    def issued(subject: str, scope: str | Scopes, life: timedelta = timedelta(minutes=5)) -> str:
        scopes = scope if isinstance(scope, Scopes) else parse_scopes(scope)
        return Tokens(load_keys(tmp_path / "data" / "keys")).issue(subject, scopes, life)

    return issued


def _token(folder: Path, name: str) -> str:
    login = folder / "config/vmbroker" / name
    assert login.stat().st_mode & 0o777 == 0o600
    return str(json.loads(login.read_text())["token"])

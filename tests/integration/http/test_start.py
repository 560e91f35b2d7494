"""A broker's start and stop: where its data lies, whose it is, how full the disk may be, how long it takes to end."""

import asyncio
import getpass
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from broker import app, process
from broker.settings import BadSettings, load_settings
from tests.integration.http.conftest import Grid
from tests.support.api import IMAGE, Api, add_stream, claim, digest_of, offer
from tests.support.waiting import until

_SERVE = """
import asyncio, sys
from pathlib import Path
from broker.app import serve
from broker.settings import load_settings

folder = Path(sys.argv[1])
settings = load_settings({"data": folder / "data", "listen": "127.0.0.1:0", "user": "alice"})
asyncio.run(serve(settings, folder / "ready.json"))
"""


async def test_a_data_folder_may_be_written_relative_to_where_the_broker_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    settings = load_settings({"data": Path("data"), "listen": "127.0.0.1:0", "user": "alice"})

    async with app.running_broker(settings) as url, aiohttp.ClientSession() as http:
        assert await Api(http, url, None).ok("GET", "/readyz") == {"status": "ready"}

    assert (tmp_path / "data/store/appendonlydir").is_dir()


def test_whom_the_operating_system_has_no_name_for_is_told_to_give_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(getpass, "getuser", nameless)

    with pytest.raises(BadSettings, match=r"^user: .*: give --user NAME$"):
        load_settings({})
    assert load_settings({"user": "alice"}).user == "alice"


async def test_a_full_disk_takes_nothing_more_in_and_lets_what_runs_settle(
    start: Callable[[], AbstractAsyncContextManager[Grid]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as (user, launcher):
        stream = await add_stream(user)
        first = await user.ok("POST", f"{stream}/items", json=[{}], headers={"Idempotency-Key": "k"})
        dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
        lease = (await claim(launcher, dispatched["ticket"])).json["lease"]
    monkeypatch.setenv("VMBROKER_BROKER_MIN_FREE_MIB", "1073741824")

    async with start() as (user, _):
        for method, path, body in (
            ("POST", f"{stream}/items", b"[{}]"),
            ("PUT", "/v1/files/alice/x", b"x"),
            ("PUT", f"/v1/images/{digest_of(IMAGE)}", IMAGE),
        ):
            answer = await user.call(method, path, data=body)
            assert (answer.status, answer.code) == (503, "store_disk_full"), path
            assert answer.headers["Retry-After"] == "60"
        again = await user.ok("POST", f"{stream}/items", json=[{}], headers={"Idempotency-Key": "k"})
        assert again == {**first, "repeated": True}
        guest = user.bearing(lease)
        assert (await guest.ok("POST", "/v1/lease/extend", json={}))["instruction"] == "continue"
        assert (await guest.ok("POST", "/v1/lease/complete", json={"outputs": []}))["state"] == "done"


async def test_a_stop_waits_its_time_once_for_a_reader_that_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(process, "SHUTDOWN_S", 4.0)
    settings = load_settings({"data": tmp_path / "data", "listen": "127.0.0.1:0", "user": "alice"})
    clock = asyncio.get_running_loop().time
    async with aiohttp.ClientSession() as http, AsyncExitStack() as running:
        user = Api(http, await running.enter_async_context(app.running_broker(settings)), _token(tmp_path))
        async with _reading_slowly(user):
            began_s = clock()
            await running.aclose()

    assert clock() - began_s < 8, "the time to end by oneself and the time to be ended share one bound"


async def test_a_second_signal_ends_a_broker_that_is_still_stopping(tmp_path: Path) -> None:
    broker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SERVE, str(tmp_path), stdout=asyncio.subprocess.PIPE, env=_environment(tmp_path)
    )
    try:
        ready = tmp_path / "ready.json"

        async def is_ready() -> bool:
            return ready.exists()

        await until(is_ready, "the broker is ready", timeout_s=30)
        async with aiohttp.ClientSession() as http:
            user = Api(http, json.loads(ready.read_text())["url"], _token(tmp_path))
            async with _reading_slowly(user):
                broker.send_signal(signal.SIGINT)
                await _said(broker, b"broker_stopping")
                broker.send_signal(signal.SIGINT)
                assert await asyncio.wait_for(broker.wait(), 30) == -signal.SIGINT
    finally:
        if broker.returncode is None:
            broker.kill()
            await broker.wait()


@asynccontextmanager
async def _reading_slowly(user: Api) -> AsyncIterator[None]:
    """Ask for a file that no buffer on the way holds, and stop reading."""
    await user.ok("PUT", "/v1/files/alice/big", data=b"x" * 50_000_000)
    async with user.stream("/v1/files/alice/big") as answer:
        assert await answer.content.readexactly(1) == b"x"
        yield


def _token(folder: Path) -> str:
    return str(json.loads((folder / "vmbroker/login.json").read_text())["token"])


async def _said(broker: asyncio.subprocess.Process, word: bytes) -> None:
    assert broker.stdout is not None
    async with asyncio.timeout(30):
        while word not in (line := await broker.stdout.readline()):
            assert line, "the broker ended early"


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CONFIG_HOME": str(folder)}

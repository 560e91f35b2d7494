import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.client.login import KeptLogin, LoginFile
from broker.client.renewal import Renewal
from broker.wire.logins import Renewed


def in_time(gap: timedelta) -> str:
    return (datetime.now(UTC) + gap).strftime("%Y-%m-%dT%H:%M:%SZ")


class Calls:
    """Answers as a broker does, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def renew(self, login: str) -> Renewed:
        self.asked.append(login)
        await asyncio.sleep(0)
        return Renewed(
            user="alice",
            token=f"new-{len(self.asked)}",
            ends_at=in_time(timedelta(hours=4)),
            login_ends_at=in_time(timedelta(days=90)),
        )


def kept(tmp_path: Path, ends_at: str) -> KeptLogin:
    return KeptLogin(tmp_path / "login.json", LoginFile(url="http://b", token="old", login="vr1.x", ends_at=ends_at))


async def test_a_token_that_is_good_for_a_while_is_used(tmp_path: Path) -> None:
    calls = Calls()
    renewal = Renewal(kept(tmp_path, in_time(timedelta(minutes=10))), calls)

    assert await renewal.token() == "old"
    assert calls.asked == []


@pytest.mark.parametrize("ends_at", [timedelta(minutes=1), -timedelta(days=1), "", "never"])
async def test_a_token_is_renewed_before_it_ends_and_kept_privately(tmp_path: Path, ends_at: timedelta | str) -> None:
    calls = Calls()
    renewal = Renewal(kept(tmp_path, ends_at if isinstance(ends_at, str) else in_time(ends_at)), calls)

    assert await renewal.token() == "new-1"
    assert await renewal.token() == "new-1"
    assert calls.asked == ["vr1.x"]
    file = tmp_path / "login.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["token"] == "new-1"


async def test_many_who_find_the_token_refused_renew_it_once(tmp_path: Path) -> None:
    calls = Calls()
    renewal = Renewal(kept(tmp_path, in_time(timedelta(hours=1))), calls)

    assert set(await asyncio.gather(*(renewal.renewed("old") for _ in range(10)))) == {"new-1"}
    assert await renewal.renewed("old") == "new-1"
    assert await renewal.renewed("new-1") == "new-2"

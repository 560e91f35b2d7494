"""A vm's folders and their watch, with a real broker and a guest of whom only the files are there."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from broker.client.session import Session
from broker.wire.dispatches import DispatchAnswer
from broker.wire.states import Phase, Verdict
from launcher.hypervisor.account import Account
from launcher.hypervisor.vm import StopReason
from launcher.node import folder_exchanges
from launcher.node.abilities import Abilities
from launcher.node.attendance import Attendance
from launcher.node.exchanges import Exchange
from launcher.node.folder_exchanges import folder_exchange
from launcher.node.node import Node
from launcher.node.verdicts import Ending
from tests.support.api import Api, add_stream, offer
from tests.support.waiting import until

DISK_MIB = 16


@dataclass(frozen=True)
class Buttons:
    """The one thing of a hypervisor that an exchange by folders uses; what was pressed is noted."""

    pressed: list[str]

    async def press_power_button(self, uuid: str) -> None:
        self.pressed.append(uuid)


async def dispatched(user: Api, launcher: Api, exchange: str, **limits: int) -> DispatchAnswer:
    stream = await add_stream(
        user, run="/opt/app/run", needs={"exchange": exchange, "disk_mib": DISK_MIB}, limits=limits
    )
    await user.ok("POST", f"{stream}/items", json=[{}])
    answer = await launcher.call("POST", "/v1/dispatch", json=offer(exchanges=[exchange]))
    return msgspec.json.decode(answer.body, type=DispatchAnswer)


@asynccontextmanager
async def staged(
    user: Api,
    answer: DispatchAnswer,
    folder: Path,
    pressed: list[str] | None = None,
    attendance: Attendance | None = None,
) -> AsyncIterator[Exchange]:
    async with Session(user.url) as session, AsyncExitStack() as stack:
        able = Abilities(has_9p=True, has_disks=True)
        buttons = Buttons([] if pressed is None else pressed)
        parts = {
            "outside": session,
            "client": "1.0",
            "account": Account.choose(),
            "broker": session.base_url,
            "abilities": able,
            "hypervisor": buttons,
        }
        # What else a node has, no exchange by folders looks at.
        node = cast("Node", SimpleNamespace(**parts))
        exchange = folder_exchange(node, answer, folder, attendance or Attendance(node, answer), stack)
        assert exchange is not None
        await exchange.stage()
        yield exchange


@asynccontextmanager
async def watched(exchange: Exchange) -> AsyncIterator["asyncio.Task[Ending | None]"]:
    task = asyncio.create_task(exchange.watch())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_guest_that_fills_its_share_is_ended(user: Api, launcher: Api, tmp_path: Path) -> None:
    answer = await dispatched(user, launcher, "shared")
    async with staged(user, answer, tmp_path) as exchange, watched(exchange) as watch:
        (tmp_path / "share" / "out" / "filling").write_bytes(os.urandom((DISK_MIB + 1) << 20))
        async with asyncio.timeout(10):
            ending = await watch

    assert ending is not None
    assert ending.verdict is Verdict.DISK_EXCEEDED
    assert f"{DISK_MIB} MiB of the stream's needs.disk_mib" in ending.sentence


async def test_a_result_that_is_written_in_place_is_waited_for(user: Api, launcher: Api, tmp_path: Path) -> None:
    answer = await dispatched(user, launcher, "shared")
    out = tmp_path / "share" / "out"
    async with staged(user, answer, tmp_path) as exchange:
        (out / "output").mkdir()
        (out / "started").touch()
        (out / "result.json").write_text('{"exit_')
        async with watched(exchange) as watch:
            done, _ = await asyncio.wait([watch], timeout=2)
            assert not done, "the vm would be taken down while its result is written"
            (out / "result.json").write_text('{"exit_code": 0}')
            async with asyncio.timeout(10):
                assert await watch is None
        ending = await exchange.collect(None)

    assert ending is not None
    assert ending.verdict is Verdict.COMPLETED


async def test_a_result_that_never_becomes_one_ends_the_watch_all_the_same(
    user: Api, launcher: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_exchanges, "_WRITING_S", 0.5)
    answer = await dispatched(user, launcher, "shared")
    out = tmp_path / "share" / "out"
    async with staged(user, answer, tmp_path) as exchange, watched(exchange) as watch:
        (out / "started").touch()
        (out / "result.json").write_text('{"exit_')
        async with asyncio.timeout(10):
            assert await watch is None
        ending = await exchange.collect(None)

    assert ending is not None
    assert ending.verdict is Verdict.ITEM_FAILED
    assert "result.json cannot be read" in ending.sentence


async def test_a_boot_limit_shorter_than_the_blind_claim_is_claimed_within(
    user: Api, launcher: Api, tmp_path: Path
) -> None:
    answer = await dispatched(user, launcher, "disk", boot_ms=4_000)

    async def is_running() -> bool:
        item = await user.ok("GET", "/v1/streams/alice/render/items/1")
        return bool(item["state"] == "running")

    async with staged(user, answer, tmp_path) as exchange, watched(exchange):
        began_s = time.monotonic()
        await until(is_running, "the claim")
        assert time.monotonic() - began_s < 4


STOPPED = Ending(Verdict.DRAINED, "the slot ends")


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        ('{"exit_code": 75}', Verdict.DRAINED),
        ('{"exit_code": 143}', Verdict.DRAINED),
        ('{"exit_code": 0}', Verdict.COMPLETED),
    ],
)
async def test_what_a_guest_leaves_that_was_asked_to_stop_counts_when_it_is_a_success(
    user: Api, launcher: Api, tmp_path: Path, result: str, verdict: Verdict
) -> None:
    answer = await dispatched(user, launcher, "shared")
    out = tmp_path / "share" / "out"
    pressed: list[str] = []
    async with staged(user, answer, tmp_path, pressed) as exchange:
        (out / "output").mkdir()
        (out / "started").touch()
        async with watched(exchange) as watch:
            await exchange.ask_to_stop(STOPPED, 60_000)
            (out / "result.json").write_text(result)
            async with asyncio.timeout(10):
                await watch
        ending = await exchange.collect(None)

    assert pressed == [answer.dispatch], "a guest that never said hello has no client of ours"
    assert ending is not None
    assert ending.verdict is verdict


async def test_a_failure_that_was_written_before_the_guest_was_asked_to_stop_is_its_own(
    user: Api, launcher: Api, tmp_path: Path
) -> None:
    answer = await dispatched(user, launcher, "shared")
    out = tmp_path / "share" / "out"
    pressed: list[str] = []
    async with staged(user, answer, tmp_path, pressed) as exchange:
        (out / "output").mkdir()
        (out / "started").touch()
        (out / "result.json").write_text('{"exit_code": 3}')
        async with watched(exchange) as watch, asyncio.timeout(10):
            await exchange.ask_to_stop(STOPPED, 60_000)
            await watch
        ending = await exchange.collect(None)

    assert pressed == []
    assert ending is not None
    assert ending.verdict is Verdict.ITEM_FAILED


async def test_an_item_that_is_claimed_when_its_vm_is_gone_already_is_known_to_be(
    user: Api, launcher: Api, tmp_path: Path
) -> None:
    answer = await dispatched(user, launcher, "shared")
    out = tmp_path / "share" / "out"
    phases: list[Phase] = []
    attendance = Attendance(
        cast("Node", SimpleNamespace(name="l1", broker="http://127.0.0.1:9")), answer, phases.append
    )
    async with staged(user, answer, tmp_path, attendance=attendance) as exchange:
        (out / "output").mkdir()
        (out / "result.json").write_text('{"exit_code": 0}')
        ending = await exchange.collect(StopReason.GUEST_SHUTDOWN)

    assert ending is not None
    assert ending.verdict is Verdict.COMPLETED
    assert (attendance.was_claimed, phases) == (True, [Phase.CLAIMED])


async def test_nothing_is_given_away_before_it_is_whole(
    user: Api, launcher: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: dict[str, list[str]] = {}

    def take(_: Account, path: Path) -> None:
        found = path.iterdir() if path.is_dir() else iter([path])
        taken[path.relative_to(tmp_path).as_posix()] = sorted(each.name for each in found)

    monkeypatch.setattr(Account, "take", take)
    answer = await dispatched(user, launcher, "shared")
    async with staged(user, answer, tmp_path):
        pass

    assert list(taken) == ["share/in", "share/out", "share", "ticket", "seed.iso"]
    assert taken["share/in"] == ["item.env", "item.json", "program"]

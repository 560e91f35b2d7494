"""A launcher that tells a real broker of itself, and its node by a file."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from broker.client.dispatch import DispatchClient
from broker.client.session import ONCE, Session
from broker.wire.states import Accelerator, HealthCode, HealthState, Phase, Verdict
from launcher.node.presence import About, Presence, keep_state_file
from launcher.node.slot import Slot
from launcher.node.standing import Standing
from launcher.node.state_file import STATE_FILE, LauncherState, read_state_in
from launcher.node.verdicts import Ending
from launcher.node.vms import Outcome
from launcher.slot import QEMU_OVERHEAD_MIB
from tests.support.api import Api
from tests.support.dispatches import dispatched
from tests.support.grid import free_port
from tests.support.waiting import until

FULL = Ending(Verdict.HOST_ERROR, "the scratch folder is full", HealthCode.DISK_FULL)
DISPATCH = "11111111-2222-3333-4444-555555555555"
ANSWER = dispatched(dispatch=DISPATCH)


def standing() -> Standing:
    return Standing(Slot(vms=4, vcpus=4, memory_mib=1_000, disk_mib=100, accelerator=Accelerator.TCG))


def about(url: str) -> About:
    return About(name="n1", broker=url, node_name="node17", client="1.0", labels={"rack": "12"}, contact="grid@site")


@asynccontextmanager
async def telling(url: str, token: str | None, standing: Standing) -> AsyncIterator[Presence]:
    async with Session(url, token=token) as session:
        presence = Presence(DispatchClient(session), standing, about(url))
        task = asyncio.create_task(presence.keep())
        try:
            yield presence
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def told(launcher: Api) -> list[dict[str, Any]]:
    page = await launcher.ok("GET", "/v1/launchers")
    return [view for view in page["launchers"] if view["launcher"].endswith("/n1")]


async def test_a_launcher_is_heard_with_its_sizes_its_vms_and_each_change_of_its_health(launcher: Api) -> None:
    stands = standing()

    async def report_has(state: str, vms: int) -> bool:
        return [
            (view["report"]["health"].get("state", "healthy"), view["report"].get("vms", 0))
            for view in await told(launcher)
        ] == [(state, vms)]

    async with telling(launcher.url, launcher.token, stands):
        await until(lambda: report_has("healthy", 0), "the launcher is heard")
        (view,) = await told(launcher)
        assert view["report"]["total"]["memory_mib"] == 1_000 - QEMU_OVERHEAD_MIB
        assert (view["node"], view["report"]["labels"], view["report"]["contact"]) == (
            "node17",
            {"rack": "12"},
            "grid@site",
        )
        with stands.taken(ANSWER):
            await until(lambda: report_has("healthy", 1), "its vm is told")
            stands.ended(DISPATCH, Outcome(FULL))
        await until(lambda: report_has("backing_off", 0), "its fault is told")
        (view,) = await told(launcher)
        health = view["report"]["health"]
        assert (health["code"], health["sentence"], health["faults"]) == ("disk_full", FULL.sentence, 1)
        assert health["retry_at"] > health["since"]
        assert view["report"]["free"] is None


async def test_a_launcher_that_leaves_is_there_no_more(launcher: Api) -> None:
    async with telling(launcher.url, launcher.token, standing()):

        async def is_heard() -> bool:
            return bool(await told(launcher))

        await until(is_heard, "the launcher is heard")
    async with Session(launcher.url, token=launcher.token) as session:
        await Presence(DispatchClient(session), standing(), about(launcher.url)).leave()
    assert all(view["is_gone"] for view in await told(launcher))


async def test_a_broker_that_is_away_ends_nothing() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with Session(url, token="a-token", patience=ONCE) as session:
        presence = Presence(DispatchClient(session), standing(), about(url))
        assert await presence.report_once() > 0


@pytest.fixture
async def written(tmp_path: Path) -> AsyncIterator[tuple[Standing, Path]]:
    stands = standing()
    task = asyncio.create_task(keep_state_file(tmp_path, stands, about("http://broker")))
    yield stands, tmp_path
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_the_state_file_follows_each_vm_and_is_its_accounts_alone(written: tuple[Standing, Path]) -> None:
    stands, folder = written

    def read() -> LauncherState | None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            return read_state_in(descriptor)
        finally:
            os.close(descriptor)

    async def says(phases: list[Phase]) -> bool:
        state = read()
        return state is not None and [vm.phase for vm in state.vms] == phases

    with stands.taken(ANSWER) as note_phase:
        note_phase(Phase.BOOTING)
        await until(lambda: says([Phase.BOOTING]), "the vm is in the file")
        state = read()
        assert isinstance(state, LauncherState)
        assert (state.pid, state.vms[0].item, state.vm_count) == (os.getpid(), "alice/render/1", 1)
    await until(lambda: says([]), "the vm is out of the file")
    assert (folder / STATE_FILE).stat().st_mode & 0o777 == 0o600
    assert [file.name for file in folder.iterdir()] == [STATE_FILE]


async def test_a_node_that_backs_off_waits_for_its_pause_or_for_news() -> None:
    stands = standing()
    with stands.taken(ANSWER):
        stands.ended(DISPATCH, Outcome(FULL))
    assert stands.room() is None
    waiting = asyncio.create_task(stands.wait_changed(stands.changes))
    await asyncio.sleep(0)
    assert not waiting.done()
    stands.drained(Ending(Verdict.DRAINED, "it ends", HealthCode.TOLD_TO_DRAIN))
    async with asyncio.timeout(5):
        await waiting
    assert stands.health.state is HealthState.DRAINING

"""The order in which a vm ends, with a hypervisor and a broker that fail as they are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker.client.session import ApiError
from broker.wire.dispatches import DispatchExtended, VmEnded
from broker.wire.problems import ProblemCode, problem
from broker.wire.states import Accelerator, Instruction, Verdict
from launcher.exchange.proxy import Proxy
from launcher.hypervisor.errors import Unavailable
from launcher.hypervisor.vm import StopReason
from launcher.node import draining, vm_run
from launcher.node.budget import Budgets
from launcher.node.draining import Drain
from launcher.node.node import Node
from launcher.node.slot import Slot
from launcher.node.verdicts import Ending
from launcher.node.vm_run import VmRun
from launcher.node.vms import Outcome
from tests.support.dispatches import dispatched

DONE = Ending(Verdict.COMPLETED, "the result was accepted")
ANSWER = dispatched()


class Stage:
    """A hypervisor, an exchange and a broker; what each was asked is noted in order.

    Attributes:
        stops: how the vm stops; None: it runs on.
        busy: so many calls to destroy fail, each a moment after it was made.
        refusals: so many reports of the end are answered 500.
        is_silent: whether the broker never answers a report of the end.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.stops: StopReason | None = StopReason.GUEST_SHUTDOWN
        self.busy = 0
        self.refusals = 0
        self.is_silent = False
        self.started = asyncio.Event()

    async def start_vm(self, xml: str) -> None:
        self.started.set()

    async def wait_stopped(self, uuid: str) -> StopReason:
        if self.stops is None:
            await asyncio.Event().wait()
        assert self.stops is not None
        return self.stops

    async def destroy(self, uuid: str) -> None:
        self.calls.append("destroy")
        await asyncio.sleep(0)
        if self.busy:
            self.busy -= 1
            raise Unavailable("libvirt did not answer")

    async def watch(self) -> None:
        await asyncio.Event().wait()

    async def collect(self, reason: StopReason | None) -> Ending | None:
        self.calls.append("collect")
        return DONE

    async def extend(self, *_: Any, **__: Any) -> DispatchExtended:
        if self.calls[-1:] != ["extend"]:
            self.calls.append("extend")
        return DispatchExtended(instruction=Instruction.CONTINUE, state="dispatched")

    report = extend

    async def end(self, *_: Any, **__: Any) -> VmEnded:
        self.calls.append("end")
        if self.is_silent:
            await asyncio.Event().wait()
        if self.refusals:
            self.refusals -= 1
            raise ApiError(problem(ProblemCode.INTERNAL, "the broker stumbled"))
        return VmEnded(verdict=Verdict.COMPLETED, state="done")


@asynccontextmanager
async def running(
    stage: Stage, scratch: Path, drain: Drain, patched: pytest.MonkeyPatch
) -> AsyncIterator["asyncio.Task[Outcome]"]:
    async def prepare(*_: Any) -> str:
        return "<domain/>"

    patched.setattr(vm_run, "prepare", prepare)
    patched.setattr(vm_run, "folder_exchange", lambda *_: stage)
    patched.setattr(vm_run, "_DESTROY_AGAIN_S", 0.01)
    patched.setattr(draining, "LAST_WORDS_S", 0.5)
    patched.setattr(draining, "_LEAST_WORDS_S", 0.1)
    node = SimpleNamespace(
        name="l1",
        broker="http://127.0.0.1:1",
        scratch=scratch,
        facts={},
        proxy=Proxy([]),
        budgets=Budgets(),
        hypervisor=stage,
        dispatches=stage,
        slot=Slot(vms=1, vcpus=1, memory_mib=1, disk_mib=1, accelerator=Accelerator.TCG),
    )
    # What else a node has, a vm's run does not look at itself.
    task = asyncio.create_task(VmRun(cast("Node", node), ANSWER).run(drain))
    try:
        async with asyncio.timeout(20):
            yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_vm_that_cannot_be_destroyed_keeps_its_item_until_it_is_gone_and_its_result_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    stage.busy = 3
    async with running(stage, tmp_path, Drain(), monkeypatch) as run:
        assert (await run).ending == DONE
    assert stage.calls[-7:] == ["destroy", "extend", "destroy", "extend", "destroy", "collect", "end"]


async def test_a_vm_that_may_still_run_when_the_launcher_ends_is_not_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, drain = Stage(), Drain()
    stage.busy, stage.stops = 1_000_000, None
    async with running(stage, tmp_path, drain, monkeypatch) as run:
        await stage.started.wait()
        drain.order()
        await run
    assert "end" not in stage.calls


async def test_vms_that_went_with_their_libvirtd_are_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, drain = Stage(), Drain()
    stage.busy, stage.stops = 1_000_000, None
    async with running(stage, tmp_path, drain, monkeypatch) as run:
        await stage.started.wait()
        drain.has_lost_vms = True
        drain.order()
        await run
    assert stage.calls[-1] == "end"


async def test_a_broker_that_stumbles_over_a_verdict_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    stage.refusals = 1
    async with running(stage, tmp_path, Drain(), monkeypatch) as run:
        assert (await run).answer is not None
    assert stage.calls[-2:] == ["end", "end"]


async def test_a_broker_that_says_nothing_holds_a_drain_up_for_its_last_words_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, drain = Stage(), Drain()
    stage.is_silent, stage.stops = True, None
    async with running(stage, tmp_path, drain, monkeypatch) as run:
        await stage.started.wait()
        drain.order()
        async with asyncio.timeout(5):
            assert (await run).answer is None


@pytest.mark.parametrize(
    "reason", [StopReason.GONE, StopReason.FAILED, StopReason.GUEST_SHUTDOWN, StopReason.DESTROYED]
)
async def test_a_vm_that_falls_with_the_launcher_was_drained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: StopReason
) -> None:
    async def collect(_: object) -> None:
        # The same signal, and the launcher hears it a moment after the vm.
        drain.order()

    stage, drain = Stage(), Drain(60.0)
    stage.stops = reason
    monkeypatch.setattr(stage, "collect", collect)
    async with running(stage, tmp_path, drain, monkeypatch) as run:
        assert (await run).ending.verdict is Verdict.DRAINED

"""A launcher without a hypervisor: offers room, tells phases, attends, and ends, with a guest process for each vm.

Killed, it leaves its guests running, as no real one does: nobody but the broker then keeps them from doing harm.
"""

import asyncio
import itertools
import signal
import uuid
from asyncio.subprocess import DEVNULL, PIPE, Process

import msgspec

from broker.client.dispatch import DispatchClient
from broker.client.errors import CallError
from broker.wire.dispatches import (
    DispatchAnswer,
    DispatchExtend,
    DispatchExtended,
    DispatchRequest,
    EndVm,
    Room,
    VmEnded,
    VmEvent,
)
from broker.wire.states import Accelerator, Instruction, Phase, Verdict
from tests.fault import plan
from tests.fault.history import Facts, History
from tests.fault.jobs import EXIT_FAILED, EXIT_GAVE_BACK, GuestJob, LauncherJob, command, told

_ROOM = Room(vcpus=1, memory_mib=1_024, disk_mib=100_000, accelerator=Accelerator.TCG)
_WAIT_MS = 2_000
_VERDICTS = {0: Verdict.COMPLETED, EXIT_FAILED: Verdict.STOPPED_EARLY, EXIT_GAVE_BACK: Verdict.ITEM_FAILED}


class Launcher:
    def __init__(self, job: LauncherJob, history: History, client: DispatchClient) -> None:
        self._job = job
        self._history = history
        self._client = client
        self._name = job.place.who
        self._stopping = asyncio.Event()
        self._guests = itertools.count(1)

    async def run(self) -> None:
        """Take items until SIGTERM; those that run by then are seen to their end."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stopping.set)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._job.vms):
                group.create_task(self._serve())
        await self._client.leave(self._name)

    async def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                given = await self._dispatch()
                if given is not None:
                    await self._run_vm(given)
            except CallError:
                continue  # the broker takes back what nobody speaks of any more

    async def _dispatch(self) -> DispatchAnswer | None:
        key = uuid.uuid4().hex
        request = DispatchRequest(dispatch_key=key, launcher=self._name, node="n", room=_ROOM, wait_ms=_WAIT_MS)

        def kept(answer: DispatchAnswer | None) -> Facts:
            return {} if answer is None else _facts(answer)

        return await self._history.call("dispatch", {"key": key}, lambda: self._client.dispatch(request), kept)

    async def _run_vm(self, given: DispatchAnswer) -> None:
        for phase in (Phase.PREPARING, Phase.BOOTING, Phase.STARTED):
            if await self._report(given, phase) is not Instruction.CONTINUE:
                await self._end(given, Verdict.SUPERSEDED)
                return
        behaviour = plan.behaviour(self._job.place.seed, given.item, given.fence)
        guests = [await self._start_guest(given) for _ in range(2 if behaviour is plan.Behaviour.TWINS else 1)]
        try:
            await self._end(given, await self._attend(given, guests))
        finally:
            for guest in guests:
                await _kill(guest)

    async def _report(self, given: DispatchAnswer, phase: Phase) -> Instruction:
        event = VmEvent(launcher=self._name, phase=phase)
        sent = _facts(given) | {"phase": phase.value}
        told = await self._history.call("phase", sent, lambda: self._client.report(given.dispatch, event), _kept)
        return told.instruction

    async def _start_guest(self, given: DispatchAnswer) -> Process:
        who = f"{self._name}-guest{next(self._guests)}"
        place = msgspec.structs.replace(self._job.place, who=who, token=None)
        job = GuestJob(place=place, item=given.item, dispatch=given.dispatch, fence=given.fence, ticket=given.ticket)
        guest = await asyncio.create_subprocess_exec(*command("guest"), stdin=PIPE, stdout=DEVNULL)
        assert guest.stdin is not None
        guest.stdin.write(msgspec.json.encode(job))
        guest.stdin.close()
        return guest

    async def _attend(self, given: DispatchAnswer, guests: list[Process]) -> Verdict:
        """Show presence until the guests have ended or the item is another's; return what became of the vm."""
        ends = asyncio.gather(*(guest.wait() for guest in guests))
        try:
            while True:
                done, _ = await asyncio.wait({ends}, timeout=plan.HEARTBEAT_S)
                if done:
                    return _VERDICTS.get(ends.result()[0], Verdict.GUEST_LOST)
                instruction = await self._extend(given)
                if instruction is not Instruction.CONTINUE:
                    await self._destroy(given, ends)
                    return Verdict.CANCELLED if instruction is Instruction.CANCEL else Verdict.SUPERSEDED
        finally:
            ends.cancel()
            await asyncio.wait({ends})

    async def _extend(self, given: DispatchAnswer) -> Instruction:
        extend = DispatchExtend(launcher=self._name)
        told = await self._history.call(
            "attend", _facts(given), lambda: self._client.extend(given.dispatch, extend), _kept
        )
        return told.instruction

    async def _destroy(self, given: DispatchAnswer, ends: "asyncio.Future[list[int]]") -> None:
        """Every second launcher cannot destroy a vm at once: its guest goes on with what it has lost."""
        if given.fence % 2:
            await asyncio.wait({ends}, timeout=plan.STOPPED_S + plan.LEASE_S)

    async def _end(self, given: DispatchAnswer, verdict: Verdict) -> None:
        end = EndVm(launcher=self._name, verdict=verdict, sentence=f"it ended as {verdict}")

        def kept(ended: VmEnded) -> Facts:
            return {"verdict": ended.verdict.value, "state": ended.state}

        sent = _facts(given) | {"verdict": verdict.value}
        await self._history.call("end", sent, lambda: self._client.end(given.dispatch, end), kept)


def _facts(given: DispatchAnswer) -> Facts:
    return {"dispatch": given.dispatch, "item": given.item, "fence": given.fence}


def _kept(told: DispatchExtended) -> Facts:
    return {"instruction": told.instruction.value, "state": told.state}


async def _kill(guest: Process) -> None:
    if guest.returncode is None:
        guest.kill()
        await guest.wait()


async def main(job: LauncherJob) -> None:
    """Run one launcher to its end."""
    async with job.place.session() as session:
        await Launcher(job, job.place.history(), DispatchClient(session)).run()


if __name__ == "__main__":
    asyncio.run(main(told(LauncherJob)))

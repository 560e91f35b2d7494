"""The saboteur: kills, stops and cuts as the plan says, and notes what it did."""

import asyncio
import signal
from collections.abc import Sequence
from typing import Final

from tests.fault import plan
from tests.fault.history import History
from tests.fault.parties import Parties, Worker, processes_of
from tests.support.ordinary_account import send
from tests.support.waiting import until

_VICTIM_S: Final = 30.0


class Saboteur:
    def __init__(self, parties: Parties, history: History) -> None:
        self._parties = parties
        self._history = history

    async def work(self, seed: int, seconds: float) -> None:
        """Strike as planned; return when the time is over and everybody who was stopped goes on."""
        clock = asyncio.get_running_loop().time
        began_s = clock()
        async with asyncio.TaskGroup() as group:
            for step in plan.steps(seed, seconds):
                await asyncio.sleep(max(0.0, began_s + step.at_s - clock()))
                group.create_task(self._strike(step))
            await asyncio.sleep(max(0.0, began_s + seconds - clock()))

    async def _strike(self, step: plan.Step) -> None:
        match step.strike:
            case plan.Strike.KILL_BROKER:
                await self._parties.broker.kill()
            case plan.Strike.KILL_STORE:
                await self._kill_store()
            case plan.Strike.CUT:
                await self._parties.way.cut(plan.CUT_S)
            case plan.Strike.KILL_LAUNCHER:
                await _one_of(self._parties.launchers, step.whom).kill()
            case plan.Strike.KILL_RESEARCHER:
                await _one_of(self._parties.researchers, step.whom).kill()
            case plan.Strike.STOP_LAUNCHER:
                await _stop_for_a_while(_one_of(self._parties.launchers, step.whom).pid)
            case plan.Strike.KILL_GUEST:
                send(await self._guest(step.whom), signal.SIGKILL)
            case plan.Strike.STOP_GUEST:
                await _stop_for_a_while(await self._guest(step.whom))
        self._history.note(step.strike.value)

    async def _kill_store(self) -> None:
        """Kill the store's server, which a broker that is just starting may not have yet."""

        async def is_killed() -> bool:
            pid = self._parties.broker.store_pid()
            if pid is not None:
                send(pid, signal.SIGKILL)
            return pid is not None

        await until(is_killed, "there is a store to kill", timeout_s=_VICTIM_S)

    async def _guest(self, whom: float) -> int:
        guests: list[int] = []

        async def are_there() -> bool:
            guests[:] = processes_of(self._parties.mark, "guest")
            return bool(guests)

        await until(are_there, "there is a guest to strike", timeout_s=_VICTIM_S, poll_s=0.1)
        return guests[int(whom * len(guests))]


def _one_of(workers: Sequence[Worker], whom: float) -> Worker:
    return workers[int(whom * len(workers))]


async def _stop_for_a_while(pid: int) -> None:
    """Make a zombie: it sleeps past its lease, and then goes on as if nothing had been."""
    send(pid, signal.SIGSTOP)
    await asyncio.sleep(plan.STOPPED_S)
    send(pid, signal.SIGCONT)

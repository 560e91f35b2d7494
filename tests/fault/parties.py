"""The parties of a run: the broker, launchers and researchers, started again when the saboteur has killed them."""

import asyncio
import signal
from asyncio.subprocess import PIPE, Process
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import msgspec

from tests.fault import plan
from tests.fault.jobs import MARK_VARIABLE, LauncherJob, Place, ResearcherJob, command
from tests.fault.way import Way
from tests.support.grid import REPOSITORY, Broker
from tests.support.ordinary_account import command_line, marked_processes

_PAUSE_S: Final = 4.0
"""Between two chunks of a researcher."""
_ENDS: Final = frozenset({0, -signal.SIGKILL, -signal.SIGTERM})
"""SIGTERM ends one that has only just been started, and has done nothing yet."""

Role = Literal["launcher", "researcher"]


class BrokerProcess:
    """The broker, which may die and is started again over the same data."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._stack = ExitStack()
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Start it, and return when it is ready."""
        # Waiting for it blocks, and the way to it is served by this thread's loop.
        self._process = await asyncio.to_thread(self._stack.enter_context, self._broker.serving())

    def store_pid(self) -> int | None:
        """Return the process id of the store's server, None while there is none."""
        try:
            return self._broker.store_pid()
        except (AssertionError, FileNotFoundError):
            return None

    async def kill(self) -> None:
        """Kill it, and start it again; one after the other when asked for twice at once."""
        async with self._turn:
            self._process.kill()
            await self.stop()
            await self.start()

    async def stop(self) -> None:
        """Stop it in good order, unless it was killed."""
        await asyncio.to_thread(self._stack.close)


@dataclass
class Worker:
    """A launcher or a researcher: one process after the other under one number."""

    role: Role
    number: int
    place: Place
    broker: Broker
    process: Process | None = None
    _life: int = field(default=0, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        """Start its next process."""
        self._life += 1
        with (self.broker.home.folder / "workers.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command(self.role),
                stdin=PIPE,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env=self.broker.home.environment(),
            )
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(self._job()))
        self.process.stdin.close()

    async def kill(self) -> None:
        """Kill it, and start it again."""
        async with self._turn:
            assert self.process is not None
            if self.process.returncode is None:
                self.process.kill()
            await self._ended()
            await self.start()

    async def finish(self) -> None:
        """Let it bring to an end what it does."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
        await self._ended()

    async def _ended(self) -> None:
        """Return when it has ended; fail when it ended otherwise than it should."""
        assert self.process is not None
        status = await self.process.wait()
        log = self.broker.home.folder / "workers.log"
        assert status in _ENDS, f"{self.role} {self.number} ended with {status}:\n{log.read_text()}"

    def _job(self) -> ResearcherJob | LauncherJob:
        place = msgspec.structs.replace(self.place, who=f"{self.role}{self.number}-{self._life}")
        if self.role == "launcher":
            return LauncherJob(place=place, vms=plan.VMS_AT_ONCE)
        return ResearcherJob(place=place, number=self.number, user="alice", pause_s=_PAUSE_S)


class Parties(NamedTuple):
    """All of them, and the way on which they call the broker; `mark` is in the environment of each process."""

    broker: BrokerProcess
    way: Way
    launchers: list[Worker]
    researchers: list[Worker]
    mark: str


def processes_of(mark: str, program: str | None = None) -> list[int]:
    """Return the processes of a run that have not ended, or those of one program."""
    pids = marked_processes(f"{MARK_VARIABLE}={mark}")
    return sorted(pid for pid in pids if program is None or f"tests.fault.{program}" in command_line(pid))

"""The parent of several broker processes: it starts them, starts those again that die, and stops them all.

The parent answers nobody. A worker that dies takes with it what it was answering, which its callers repeat; the others
go on, and whoever connects meanwhile waits in its socket for the one that takes its place. One that dies again and
again ends the broker, whose supervisor sees it: a part of the callers would wait in vain. ADR 0012.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import structlog

from broker.listening import CannotServe
from broker.process import SHUTDOWN_S, Duties
from broker.store.child_process import ended
from broker.worker import Assignment, Report

_START_S = 60.0
"""Python, its modules and the store's scripts: a second or two, more on a busy machine."""
_STOP_S = SHUTDOWN_S + 5.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 6.4
_HEALTHY_S = 60.0
"""A worker that lived so long has the pauses and the deaths before it forgiven."""
MOST_DEATHS = 8
"""So many in a row, of one worker, end the broker: about 15 s after the first."""

log = structlog.get_logger(__name__)


@asynccontextmanager
async def working(duties: Sequence[Duties], listeners: Sequence[socket.socket]) -> AsyncIterator[None]:
    """Have one worker for each of the duties, on the bound socket of its own, for the block.

    At its end all of them stop at the same time. The block is cancelled when a worker cannot be kept.

    Raises:
        CannotServe: a worker does not start.
        ExceptionGroup: a worker died again and again.
    """
    workers = [Worker(told, listener) for told, listener in zip(duties, listeners, strict=True)]
    try:
        started = await asyncio.gather(*(worker.start() for worker in workers), return_exceptions=True)
        for fault in started:
            if fault is not None:
                raise fault
        async with asyncio.TaskGroup() as group:
            watches = [group.create_task(worker.keep_running()) for worker in workers]
            try:
                yield
            finally:
                for watch in watches:
                    watch.cancel()
    finally:
        # Before the workers, each of which closes its own: who connects now is refused, and waits for nobody.
        for listener in listeners:
            listener.close()
        await asyncio.gather(*(worker.stop() for worker in workers))


class Worker:
    """One process, and those that take its place."""

    def __init__(self, duties: Duties, listener: socket.socket) -> None:
        self._duties = duties
        self._listener = listener
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process and return when it serves.

        Raises:
            CannotServe: it does not; no process is left.
        """
        descriptor = self._listener.fileno()
        self._process = await asyncio.create_subprocess_exec(
            # -P: nothing in the folder that the broker was started in is taken for a module.
            *(sys.executable, "-P", "-m", "broker.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(descriptor,),
            # A Ctrl-C at the terminal is the parent's to handle.
            start_new_session=True,
        )
        assignment = Assignment(parent=os.getpid(), listener=descriptor, duties=self._duties)
        try:
            async with asyncio.timeout(_START_S):
                fault = (await _told(self._process, assignment)).fault
        except TimeoutError:
            fault = f"a worker did not start within {_START_S:.0f} s"
        except BaseException:
            await self.stop()
            raise
        if fault:
            await self.stop()
            raise CannotServe(fault)
        log.info("worker_started", worker=self._duties.turns.place, pid=self._process.pid)

    async def keep_running(self) -> None:
        """Start the process again when it died, until cancelled.

        Raises:
            CannotServe: it died too often.
        """
        clock = asyncio.get_running_loop().time
        deaths, since_s = 0, clock()
        while True:
            assert self._process is not None, "there is a process from the first start on"
            status = await self._process.wait()
            deaths = 1 if clock() - since_s > _HEALTHY_S else deaths + 1
            if deaths == MOST_DEATHS:
                raise CannotServe(f"worker {self._duties.turns.place} died {deaths} times in a row")
            pause_s = min(_FIRST_PAUSE_S * 2 ** (deaths - 1), _LONGEST_PAUSE_S)
            log.error("worker_died", worker=self._duties.turns.place, status=status, restart_in_s=pause_s)
            await asyncio.sleep(pause_s)
            since_s = clock()
            try:
                await self.start()
            except (CannotServe, OSError) as error:
                log.warning("worker_not_restarted", worker=self._duties.turns.place, reason=str(error))

    async def stop(self) -> None:
        """Let the process end what it does, within its bounds; stopping twice is fine."""
        if not await ended(self._process, _STOP_S):
            log.warning("worker_killed", worker=self._duties.turns.place)


async def _told(process: asyncio.subprocess.Process, assignment: Assignment) -> Report:
    """Tell a worker what to do and return what it answers."""
    assert process.stdin is not None, "it was asked for"
    assert process.stdout is not None, "it was asked for"
    try:
        process.stdin.write(msgspec.json.encode(assignment))
        await process.stdin.drain()
    except ConnectionError:
        pass  # it is gone, and says nothing, which is seen next
    process.stdin.close()
    line = await process.stdout.readline()
    return msgspec.json.decode(line, type=Report) if line else Report("a worker ended at its start; the log has why")

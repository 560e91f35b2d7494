"""The process that tells servers, as a child of a broker with a store of its own.

It starts with the first callback: most brokers of one machine never have any. It is started again when it dies, and
never takes the broker with it: what is owed waits in the outbox.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import structlog

from broker.callbacks.queue import QUEUE_FAILURES, CallbackQueue
from broker.callbacks.working import CallbackDuties
from broker.store.child_process import ended

_LOOK_S = 0.5
_STOP_S = 15.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_HEALTHY_S = 60.0

log = structlog.get_logger(__name__)


@asynccontextmanager
async def telling(duties: CallbackDuties) -> AsyncIterator[None]:
    """Have a child tell servers for the block, from the first callback on."""
    child = CallbackChild(duties)
    watch = asyncio.create_task(child.keep_running())
    try:
        yield
    finally:
        watch.cancel()
        await asyncio.wait({watch})
        await child.stop()


class CallbackChild:
    """One process, and those that take its place."""

    def __init__(self, duties: CallbackDuties) -> None:
        self._duties = msgspec.structs.replace(duties, parent=os.getpid())
        self._process: asyncio.subprocess.Process | None = None

    async def keep_running(self) -> None:
        """Start the process when there is something to do, and again when it died, until cancelled."""
        clock = asyncio.get_running_loop().time
        await self._until_needed()
        pause_s = _FIRST_PAUSE_S
        while True:
            since_s = clock()
            status = await self._run()
            if clock() - since_s > _HEALTHY_S:
                pause_s = _FIRST_PAUSE_S
            log.error("callbacks_child_died", status=status, restart_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def stop(self) -> None:
        """Let the process end what it does, within its bounds; stopping twice is fine."""
        if not await ended(self._process, _STOP_S):
            log.warning("callbacks_child_killed")

    async def _until_needed(self) -> None:
        queue = CallbackQueue(self._duties.queue)
        try:
            # RQ tells nobody that there is a job, but to a worker.
            while not await asyncio.to_thread(_has_some, queue):  # noqa: ASYNC110 # it happens in other processes
                await asyncio.sleep(_LOOK_S)
        finally:
            queue.close()

    async def _run(self) -> int | None:
        """Start the process, and return its exit status when it ended; None when it could not be started."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                # -P: nothing in the folder that the broker was started in is taken for a module.
                *(sys.executable, "-P", "-m", "broker.callbacks.working"),
                stdin=asyncio.subprocess.PIPE,
                # A Ctrl-C at the terminal is the parent's to handle.
                start_new_session=True,
            )
            log.info("callbacks_child_started", pid=self._process.pid)
            # What it says of a child that is gone at once is its status.
            await self._process.communicate(msgspec.json.encode(self._duties))
        except OSError as error:
            log.warning("callbacks_child_not_started", reason=str(error))
            return None
        return await self._process.wait()


def _has_some(queue: CallbackQueue) -> bool:
    try:
        return queue.waiting() > 0
    except QUEUE_FAILURES:
        return False

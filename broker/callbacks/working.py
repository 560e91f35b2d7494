"""One process that tells servers: RQ's worker, the event loop beside it, and what an attempt needs.

It is run by `broker callbacks`, or as a child of a broker with a store of its own: `python -P -m
broker.callbacks.working`, which is told its duties on its standard input and dies with its parent.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import msgspec
import structlog
from rq.exceptions import StopRequested

from broker.auth.key_files import BadKeys
from broker.auth.key_watch import keep_keys
from broker.auth.keys import BrokerKeys, load_keys
from broker.callbacks.queue import PER_WORKER, QUEUE_FAILURES
from broker.callbacks.work import deliver_owed
from broker.callbacks.worker import CallbackWorker
from broker.client.origins import Origin
from broker.client.outgoing import OutgoingClient
from broker.domain.errors import Unavailable
from broker.store import Store
from broker.store.die_with_parent import tie_to_parent
from broker.telemetry import LogFormat, LogLevel, configure_logging

T = TypeVar("T")

_START_S = 30.0
_CLOSE_S = 5.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_HEALTHY_S = 30.0

log = structlog.get_logger(__name__)


class CallbackDuties(msgspec.Struct, frozen=True, kw_only=True):
    """What a process that tells servers is told.

    Attributes:
        store: address of the broker's store.
        queue: address of RQ's Redis.
        data: absolute path of the data folder, whose keys open the secrets that sign.
        parent: process id of the broker whose child this is; 0: nobody's.
    """

    store: str
    queue: str
    data: str
    log_format: LogFormat
    log_level: LogLevel
    outgoing_trusted: tuple[str, ...] = ()
    outgoing_ca: str | None = None
    parent: int = 0


@dataclass(frozen=True, slots=True)
class Parts:
    """What an attempt needs."""

    store: Store
    keys: BrokerKeys
    outgoing: OutgoingClient


def main() -> int:
    """Work as a child until SIGTERM; return the exit status."""
    duties = msgspec.json.decode(sys.stdin.buffer.read(), type=CallbackDuties)
    tie_to_parent(duties.parent, signal.SIGKILL)
    configure_logging(duties.log_format, duties.log_level)
    structlog.contextvars.bind_contextvars(part="callbacks")
    try:
        work_until_stopped(duties)
    except (BadKeys, Unavailable, OSError) as error:
        log.warning("callbacks_not_started", reason=str(error))
        return 1
    return 0


def work_until_stopped(duties: CallbackDuties) -> None:
    """Tell servers what RQ hands out, until SIGTERM or SIGINT; what is being told then may end, for some seconds.

    RQ's Redis may come and go. To be called in the main thread.

    Raises:
        BadKeys, Unavailable: it cannot start; show the text.
    """
    told_to_stop = threading.Event()
    with _loop_beside() as loop:
        stack = AsyncExitStack()
        parts = _result(_opened(duties, stack), loop, _START_S)
        watching = asyncio.run_coroutine_threadsafe(keep_keys(parts.keys), loop)
        try:
            _keep_working(duties.queue, parts, loop, told_to_stop)
        finally:
            watching.cancel()
            _result(stack.aclose(), loop, _CLOSE_S)
    log.info("callbacks_stopped")


def _keep_working(queue: str, parts: Parts, loop: asyncio.AbstractEventLoop, told_to_stop: threading.Event) -> None:
    """Have one worker after the other: one that lost its Redis is replaced, after a growing pause."""
    pause_s = _FIRST_PAUSE_S

    def deliver(entry: str) -> Coroutine[Any, Any, None]:
        return deliver_owed(parts, entry)

    while True:
        _stop_at_signals(told_to_stop)
        if told_to_stop.is_set():
            return
        since_s = loop.time()
        _work_once(queue, deliver, loop, told_to_stop)
        if loop.time() - since_s > _HEALTHY_S:
            pause_s = _FIRST_PAUSE_S
        told_to_stop.wait(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _work_once(queue: str, deliver: Any, loop: asyncio.AbstractEventLoop, told_to_stop: threading.Event) -> None:
    worker = None
    try:
        worker = CallbackWorker(queue, deliver, loop, told_to_stop)
        log.info("callbacks_working", worker=worker.name, at_a_time=PER_WORKER)
        worker.work(logging_level="WARNING")
    except StopRequested:
        told_to_stop.set()
    except QUEUE_FAILURES as error:
        log.warning("callbacks_queue_away", reason=str(error))
    finally:
        # RQ's own handlers end the process: from here on a signal is only noted.
        _stop_at_signals(told_to_stop)
        if worker is not None:
            worker.drain()


def _stop_at_signals(told_to_stop: threading.Event) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        told_to_stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


@contextmanager
def _loop_beside() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread of its own for the block."""
    loop = asyncio.new_event_loop()
    # Names are resolved in these threads: one user's name servers that hang must not hold up everybody.
    loop.set_default_executor(ThreadPoolExecutor(PER_WORKER // 2, "callback-names"))
    thread = threading.Thread(target=loop.run_forever, name="callback-attempts", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CLOSE_S)


def _result(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, most_s: float) -> T:
    future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, loop)
    return future.result(most_s)


async def _opened(duties: CallbackDuties, stack: AsyncExitStack) -> Parts:
    keys = load_keys(Path(duties.data) / "keys")
    store = await Store.connect(duties.store)
    stack.push_async_callback(store.close)
    ca_pem = None if duties.outgoing_ca is None else Path(duties.outgoing_ca).read_text()
    trusted = [Origin.parse(origin) for origin in duties.outgoing_trusted]
    outgoing = await stack.enter_async_context(OutgoingClient(trusted, ca_pem, connections=PER_WORKER))
    return Parts(store, keys, outgoing)


if __name__ == "__main__":
    status = main()
    # A thread that resolves a name may hang for longer than anybody waits.
    sys.stderr.flush()
    os._exit(status)

"""One process of a broker: the HTTP API over the store, the bells, and its turns at the clock.

A broker has one of them, or as many as it was given workers. A loop that crashes ends the process; nothing is kept here
that a restart would lose.
"""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import structlog
from aiohttp import web

from broker.auth.keys import load_keys
from broker.bucket import opened_bucket
from broker.callbacks.queue import CallbackQueue
from broker.callbacks.relay import Relay
from broker.client.origins import Origin
from broker.client.outgoing import OutgoingClient
from broker.collecting import keep_collected
from broker.domain.buckets import Bucket
from broker.domain.deadlines import Deadlines
from broker.domain.errors import Unavailable
from broker.domain.issuers import OutsideIssuer
from broker.domain.turns import Turns
from broker.files.free_space import FreeSpace
from broker.files.tails import Tails
from broker.http.call import Services
from broker.http.connections import Runner
from broker.http.server import loops_of, make_app, make_services
from broker.listening import tls_context
from broker.outside.keys import IssuerKeys
from broker.outside.tokens import OutsideTokens
from broker.store import Forgotten, Store
from broker.telemetry import LogFormat, LogLevel

TICK_S = 1.0
FORGET_S = 10.0
"""Items are forgotten at whole minutes: looking as often as the clock ticks would find nothing."""
SHUTDOWN_S = 10.0
"""What is being answered at the stop has so long to end."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_MIB = 1_048_576
_KEEPALIVE_S = 75.0
_BACKLOG = 1_024

log = structlog.get_logger(__name__)


class Duties(msgspec.Struct, frozen=True, kw_only=True):
    """What one process is told.

    Attributes:
        store: address of the store.
        callbacks_store: address of RQ's Redis, which may forget everything.
        is_store_here: its data lies below `data`, so that a disk that is short of space is told from pushes.
        url: address under which the broker is reached.
        data: absolute path of the data folder.
        turns: which of how many processes this is.
    """

    store: str
    callbacks_store: str
    is_store_here: bool
    url: str
    data: str
    tls_cert: str | None
    tls_key: str | None
    min_free_mib: int
    deadlines: Deadlines
    turns: Turns
    log_format: LogFormat
    log_level: LogLevel
    issuers: tuple[OutsideIssuer, ...] = ()
    outgoing_trusted: tuple[str, ...] = ()
    outgoing_ca: str | None = None
    bucket: Bucket | None = None

    @property
    def folder(self) -> Path:
        return Path(self.data)


@asynccontextmanager
async def answering(duties: Duties, listener: socket.socket) -> AsyncIterator[None]:
    """Serve on a bound socket for the block, which is cancelled when a loop crashes.

    At its end nothing more is accepted, waiters are let go, and what is being answered may end.

    Raises:
        CannotServe, BadKeys, Unavailable: it cannot start.
        ExceptionGroup: a loop crashed.
    """
    async with AsyncExitStack() as stack:
        services = await _services(duties, stack)
        queue = CallbackQueue(duties.callbacks_store)
        stack.callback(queue.close)
        # The runner waits this long twice: for handlers to end by themselves, and again after it told them to.
        runner = Runner(make_app(services), shutdown_timeout=SHUTDOWN_S / 2, keepalive_timeout=_KEEPALIVE_S)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        files = [Path(file) if file is not None else None for file in (duties.tls_cert, duties.tls_key)]
        await web.SockSite(runner, listener, ssl_context=tls_context(*files), backlog=_BACKLOG).start()
        async with asyncio.TaskGroup() as group:
            relay = Relay(services.store, queue)
            loops = [group.create_task(loop) for loop in _loops(services, relay, duties.turns)]
            try:
                yield
            finally:
                for task in loops:
                    task.cancel()


async def _services(duties: Duties, stack: AsyncExitStack) -> Services:
    keys = load_keys(duties.folder / "keys")
    space = FreeSpace(duties.folder, floor_bytes=duties.min_free_mib * _MIB)
    is_disk_short = space.is_short if duties.is_store_here else lambda: False
    store = await Store.connect(duties.store, deadlines=duties.deadlines, is_disk_short=is_disk_short)
    stack.push_async_callback(store.close)
    outgoing = await stack.enter_async_context(_outgoing(duties))
    return make_services(
        store,
        keys,
        duties.folder / "files",
        duties.url,
        space=space,
        outgoing=outgoing,
        bucket=None if duties.bucket is None else await stack.enter_async_context(opened_bucket(duties.bucket)),
        outside=OutsideTokens(duties.issuers, IssuerKeys([each.issuer for each in duties.issuers], outgoing)),
        deadlines=duties.deadlines,
    )


def _outgoing(duties: Duties) -> OutgoingClient:
    ca_pem = None if duties.outgoing_ca is None else Path(duties.outgoing_ca).read_text()
    trusted = [Origin.parse(origin) for origin in duties.outgoing_trusted]
    return OutgoingClient(trusted, ca_pem)


def _loops(services: Services, relay: Relay, turns: Turns) -> tuple[Coroutine[None, None, None], ...]:
    return (
        *loops_of(services, turns),
        keep_time(services.store, turns),
        forget(services, turns),
        relay.run(turns),
        keep_collected(),
    )


async def keep_time(store: Store, turns: Turns) -> None:
    """Call the store's clock at this process's turns, which come round every second, for ever."""
    clock = asyncio.get_running_loop().time
    while True:
        moved = await tick_once(store)
        # A full tick means that more is due: go on at once, but let others in, and the next process in its turn.
        is_more_due = moved and turns.is_own(clock(), TICK_S)
        await asyncio.sleep(0 if is_more_due else turns.until_next_s(clock(), TICK_S))


async def tick_once(store: Store) -> int:
    """Move what is due; nothing while the store is away."""
    try:
        return await store.tick()
    except Unavailable as error:
        log.warning("tick_missed", reason=error.detail)
        return 0


async def forget(services: Services, turns: Turns) -> None:
    """Forget what was kept long enough, for ever; beside the clock, which no removal of files may hold up."""
    clock = asyncio.get_running_loop().time
    while True:
        forgotten = await forget_once(services.store, services.tails)
        if forgotten and turns.is_own(clock(), FORGET_S):
            await asyncio.sleep(0)
        else:
            await _until_bulk(services.store, turns.until_next_s(clock(), FORGET_S))


async def _until_bulk(store: Store, most_s: float) -> None:
    """Wait, less long while an act on a whole stream goes on: somebody may wait for the end of a purge."""
    clock = asyncio.get_running_loop().time
    ends_s = clock() + most_s
    while (left_s := ends_s - clock()) > 0:
        await asyncio.sleep(min(TICK_S, left_s))
        if store.has_bulk:
            return


async def forget_once(store: Store, tails: Tails) -> int:
    """Forget items whose stream's `keep` is over, with what their vms said; nothing while the store is away."""

    async def clear(forgotten: Forgotten) -> None:
        try:
            await tails.remove(forgotten.item, forgotten.dispatches)
        except OSError as error:
            # The item goes all the same: one file that cannot be removed must not keep all that follows.
            log.warning("tails_not_removed", item=str(forgotten.item), reason=str(error))

    try:
        return await store.forget(clear)
    except Unavailable as error:
        log.warning("forgetting_missed", reason=error.detail)
        return 0

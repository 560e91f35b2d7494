"""Wiring: from settings to a running broker, and back to nothing.

One process: the store's server (unless one is named), the HTTP API, the bells, and the clock that ends what is overdue.
A loop that crashes ends the process, whose supervisor starts it again; nothing is kept here that a restart would lose.
"""

import asyncio
import json
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog
from aiohttp import web

from broker.auth.keys import BrokerKeys, load_keys, write_private
from broker.auth.logins import write_logins
from broker.domain.errors import Unavailable
from broker.files.free_space import FreeSpace
from broker.files.tails import Tails
from broker.http.call import Services
from broker.http.server import loops_of, make_app, make_services
from broker.settings import Settings, config_home
from broker.store import EmbeddedStore, Forgotten, Store

TICK_S = 1.0
_FORGET_S = 10.0
"""Items are forgotten at whole minutes: looking as often as the clock ticks would find nothing."""
_SHUTDOWN_S = 10.0
"""What is being answered at the stop has so long to end."""
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_MIB = 1_048_576
_KEEPALIVE_S = 75.0
_BACKLOG = 1_024

log = structlog.get_logger(__name__)


class CannotServe(Exception):
    """The broker cannot start; its text says what to do."""


async def serve(settings: Settings, ready_file: Path | None) -> None:
    """Run a broker until SIGTERM or SIGINT; a second one ends it at once.

    Raises:
        CannotServe, BadKeys, Unavailable: it cannot start; show the text.
    """
    stopping = asyncio.Event()
    _stop_at_signals(stopping)
    async with running_broker(settings) as url:
        if ready_file is not None:
            write_private(ready_file, json.dumps({"url": url, "pid": os.getpid()}) + "\n")
        await stopping.wait()
        log.info("broker_stopping")
    log.info("broker_stopped")


def _stop_at_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopping.set()
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
            # The store's server notices that its parent is gone, and stops by itself.
            signal.signal(number, signal.SIG_DFL)

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop)


@asynccontextmanager
async def running_broker(settings: Settings) -> AsyncIterator[str]:
    """Run a broker for the block and give the address under which it is reached.

    Both logins are written when it listens, so that whoever finds them finds it.
    """
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = load_keys(settings.data / "keys")
    async with AsyncExitStack() as stack:
        store = await _connected_store(settings, stack)
        url, services = await _listening(settings, keys, store, stack)
        write_logins(services.tokens, config_home(), url, settings.user)
        log.info("broker_ready", url=url, data=str(settings.data), user=settings.user)
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(loop) for loop in (*loops_of(services), keep_time(store), forget(services))]
            try:
                yield url
            finally:
                for task in loops:
                    task.cancel()


async def keep_time(store: Store) -> None:
    """Call the store's clock every second, for ever."""
    while True:
        moved = await tick_once(store)
        # A full tick means that more is due: go on at once, but let others in.
        await asyncio.sleep(0 if moved else TICK_S)


async def tick_once(store: Store) -> int:
    """Move what is due; nothing while the store is away."""
    try:
        return await store.tick()
    except Unavailable as error:
        log.warning("tick_missed", reason=error.detail)
        return 0


async def forget(services: Services) -> None:
    """Forget what was kept long enough, for ever; beside the clock, which no removal of files may hold up."""
    while True:
        forgotten = await forget_once(services.store, services.tails)
        if forgotten:
            await asyncio.sleep(0)
        else:
            await _until_bulk(services.store, _FORGET_S)


async def _until_bulk(store: Store, most_s: float) -> None:
    """Wait, less long while an act on a whole stream goes on: somebody may wait for the end of a purge."""
    ends_s = asyncio.get_running_loop().time() + most_s
    while asyncio.get_running_loop().time() < ends_s:
        await asyncio.sleep(TICK_S)
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


async def _connected_store(settings: Settings, stack: AsyncExitStack) -> Store:
    if settings.store is not None:
        store = await Store.connect(settings.store, deadlines=settings.deadlines)
    else:
        embedded = await stack.enter_async_context(EmbeddedStore(settings.data / "store"))
        store = await Store.connect(embedded.url, deadlines=settings.deadlines, is_disk_short=_space(settings).is_short)
    stack.push_async_callback(store.close)
    return store


async def _listening(settings: Settings, keys: BrokerKeys, store: Store, stack: AsyncExitStack) -> tuple[str, Services]:
    """Open the port first: with port 0 the address is known only then, and connections wait until it is served."""
    listener = _bound_socket(settings)
    stack.callback(listener.close)
    url = settings.url_at(listener.getsockname()[1])
    services = make_services(
        store, keys, settings.data / "files", url, space=_space(settings), deadlines=settings.deadlines
    )
    # The runner waits this long twice: for handlers to end by themselves, and again after it told them to.
    runner = web.AppRunner(
        make_app(services), access_log=None, shutdown_timeout=_SHUTDOWN_S / 2, keepalive_timeout=_KEEPALIVE_S
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, listener, ssl_context=_tls(settings), backlog=_BACKLOG).start()
    return url, services


def _space(settings: Settings) -> FreeSpace:
    return FreeSpace(settings.data, floor_bytes=settings.min_free_mib * _MIB)


def _bound_socket(settings: Settings) -> socket.socket:
    host, port = settings.address
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotServe(f"cannot listen on {settings.listen}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise CannotServe(f"cannot listen on {settings.listen}: {error.strerror}; choose another --listen") from error
    return listener


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (ssl.SSLError, OSError) as error:
        raise CannotServe(f"the certificate {settings.tls_cert} and its key cannot be used: {error}") from error
    return context

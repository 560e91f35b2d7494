"""Wiring: from settings to a running broker, and back to nothing.

What there is once is here: the servers of the store and of RQ and the process that tells callbacks (unless a store is
named), the port, the keys, the logins. The rest is one `broker.process`: this one, or as many as there are workers, of
which this one is the parent then. A loop that crashes ends the process, whose supervisor starts it again; nothing is
kept here that a restart would lose.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import structlog

from broker.auth.keys import load_keys, remember_issuer
from broker.auth.logins import write_logins
from broker.auth.tokens import Tokens
from broker.bucket import check_home
from broker.callbacks.child import telling
from broker.callbacks.working import CallbackDuties
from broker.client.private_files import write_private
from broker.domain.turns import Turns
from broker.listening import bound_sockets
from broker.process import STOP_SIGNALS, Duties, answering
from broker.settings import Settings, config_home
from broker.store import EmbeddedStore
from broker.workers import working

log = structlog.get_logger(__name__)


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
    """Set `stopping` at SIGTERM or SIGINT; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopping.set()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
            # Workers and the store's server notice that their parent is gone, and end by themselves.
            signal.signal(number, signal.SIG_DFL)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)


@asynccontextmanager
async def running_broker(settings: Settings) -> AsyncIterator[str]:
    """Run a broker for the block and give the address under which it is reached.

    Both logins are written when it listens, so that whoever finds them finds it.
    """
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = load_keys(settings.data / "keys")
    async with AsyncExitStack() as stack:
        await check_home(settings.data / "files/users", settings.bucket)
        store, callbacks_store = await _stores(settings, stack)
        # Opened first: with port 0 the address is known only then.
        listeners = bound_sockets(settings.address, settings.workers)
        for listener in listeners:
            stack.callback(listener.close)
        url = settings.url_at(listeners[0].getsockname()[1])
        if url.startswith("https://"):
            remember_issuer(settings.data / "keys", url)
        common = _duties(settings, store, callbacks_store, url)
        duties = [
            msgspec.structs.replace(common, turns=Turns(place, len(listeners))) for place in range(len(listeners))
        ]
        is_one = len(duties) == 1
        await stack.enter_async_context(answering(duties[0], listeners[0]) if is_one else working(duties, listeners))
        if settings.store is None:
            await stack.enter_async_context(telling(callback_duties(settings, store, callbacks_store)))
        write_logins(Tokens(keys, public_url=url), config_home(), url, settings.user)
        log.info("broker_ready", url=url, data=str(settings.data), user=settings.user, workers=settings.workers)
        yield url


async def _stores(settings: Settings, stack: AsyncExitStack) -> tuple[str, str]:
    """Return the addresses of the store and of RQ's Redis; those of our own run from here on."""
    if settings.store is not None:
        return settings.store, settings.callbacks_store or settings.store
    embedded = await stack.enter_async_context(EmbeddedStore(settings.data / "store"))
    if settings.callbacks_store is not None:
        return embedded.url, settings.callbacks_store
    # What RQ keeps changes many times a callback and may be forgotten: it is no burden of the store's disk.
    forgetful = await stack.enter_async_context(EmbeddedStore(settings.data / "rq", is_durable=False))
    return embedded.url, forgetful.url


def callback_duties(settings: Settings, store: str, callbacks_store: str) -> CallbackDuties:
    return CallbackDuties(
        store=store,
        queue=callbacks_store,
        data=str(settings.data),
        log_format=settings.log_format,
        log_level=settings.log_level,
        outgoing_trusted=settings.outgoing_trusted,
        outgoing_ca=None if settings.outgoing_ca is None else str(settings.outgoing_ca.absolute()),
    )


def _duties(settings: Settings, store: str, callbacks_store: str, url: str) -> Duties:
    return Duties(
        store=store,
        callbacks_store=callbacks_store,
        is_store_here=settings.store is None,
        url=url,
        data=str(settings.data),
        tls_cert=None if settings.tls_cert is None else str(settings.tls_cert.absolute()),
        tls_key=None if settings.tls_key is None else str(settings.tls_key.absolute()),
        min_free_mib=settings.min_free_mib,
        deadlines=settings.deadlines,
        turns=Turns(),
        log_format=settings.log_format,
        log_level=settings.log_level,
        issuers=tuple(issuer.trusted(url) for issuer in settings.issuers),
        outgoing_trusted=settings.outgoing_trusted,
        bucket=settings.bucket,
        outgoing_ca=None if settings.outgoing_ca is None else str(settings.outgoing_ca.absolute()),
    )

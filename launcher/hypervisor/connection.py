"""One connection to libvirt, its blocking calls in threads of their own, its events in the caller's asyncio loop.

A libvirt connection that broke never recovers, so a new one is opened at the next call; events that fell into the gap
are lost, which is why nobody may rely on events alone. libvirt's own event loop belongs to the process, can be
registered once, and must run before the first connection is opened: it gets one thread for the life of the process.

Source: libvirt-event.h (virEventRegisterDefaultImpl), libvirt-host.h (virConnectIsAlive).
"""

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

import libvirt

from launcher.hypervisor.errors import Unavailable
from launcher.hypervisor.libvirt_tables import translate

T = TypeVar("T")

CALL_LIMIT_S: Final = 30.0
# The event thread answers for us within microseconds; a daemon silent for a minute, on a node that swaps, is lost.
KEEPALIVE_INTERVAL_S: Final = 10
KEEPALIVE_COUNT: Final = 6
# createXML takes half a second, destroy up to two: a few at once, since libvirtd itself serves only so many.
THREADS: Final = 4


@functools.cache
def _run_event_loop() -> None:
    # By default libvirt prints every error to stderr, handled or not.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_dispatch_events, name="libvirt-events", daemon=True).start()


def _dispatch_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


class Connection:
    """Calls libvirt at one URI.

    Args:
        uri: libvirt's name of the daemon.
        on_lifecycle: Called in the loop with a domain's UUID, the lifecycle event and its detail.
    """

    def __init__(self, uri: str, on_lifecycle: Callable[[str, int, int], None]) -> None:
        self._uri = uri
        self._on_lifecycle = on_lifecycle
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="libvirt")
        self._opening = asyncio.Lock()
        self._connection: libvirt.virConnect | None = None

    async def call(
        self,
        function: Callable[[libvirt.virConnect], T],
        *,
        limit_s: float = CALL_LIMIT_S,
        undo: Callable[[libvirt.virConnect, T], None] | None = None,
    ) -> T:
        """Run `function` in a thread with the open connection.

        Args:
            function: Blocks in libvirt.
            limit_s: After this time the caller goes on; the call itself cannot be interrupted.
            undo: Called in a thread with the connection and the result, if that arrives when nobody waits any more.

        Raises:
            HypervisorError: libvirt's error, translated.
            Unavailable: No answer in time, or no connection.
        """
        connection = await self._open_connection()
        undo_here = functools.partial(undo, connection) if undo else None
        return await self._run(functools.partial(function, connection), limit_s, undo_here)

    async def close(self) -> None:
        """Close the connection: its VMs are destroyed."""
        try:
            if self._connection is not None:
                await self._run(functools.partial(_close, self._connection), CALL_LIMIT_S)
        finally:
            self._connection = None
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _open_connection(self) -> libvirt.virConnect:
        async with self._opening:
            if self._connection is not None and not self._connection.isAlive():
                lost, self._connection = self._connection, None
                await self._run(functools.partial(_close, lost), CALL_LIMIT_S)
            if self._connection is None:
                self._connection = await self._run(self._open, CALL_LIMIT_S, _close)
            return self._connection

    async def _run(self, function: Callable[[], T], limit_s: float, undo: Callable[[T], None] | None = None) -> T:
        running = self._threads.submit(function)
        try:
            async with asyncio.timeout(limit_s):
                return await self._await_result(running, undo)
        except TimeoutError as error:
            raise Unavailable(f"libvirt did not answer within {limit_s:g} s") from error
        except libvirt.libvirtError as error:
            raise translate(error) from error

    async def _await_result(self, running: Future[T], undo: Callable[[T], None] | None) -> T:
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            if undo is not None:
                running.add_done_callback(functools.partial(self._undo_result, undo))
            raise

    def _undo_result(self, undo: Callable[[T], None], done: Future[T]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        # RuntimeError: the threads are closed, and with the connection went everything that could be undone.
        with contextlib.suppress(RuntimeError):
            self._threads.submit(undo, done.result())

    def _open(self) -> libvirt.virConnect:
        _run_event_loop()
        connection = libvirt.open(self._uri)
        connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
        connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._hand_over, None)
        return connection

    def _hand_over(
        self, _: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, _opaque: None
    ) -> None:
        # RuntimeError: the loop closed while an event was on its way.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_lifecycle, domain.UUIDString(), event, detail)


def _close(connection: libvirt.virConnect) -> None:
    # A lost connection cannot tell the daemon anything any more.
    with contextlib.suppress(libvirt.libvirtError):
        for callback in list(connection.domainEventCallbackID):
            connection.domainEventDeregisterAny(callback)
    with contextlib.suppress(libvirt.libvirtError):
        connection.close()

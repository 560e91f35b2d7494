"""One connection to libvirt, its blocking calls in threads of their own, its events in the caller's asyncio loop.

A libvirt connection that broke never recovers, so a new one is opened at the next call, which waits some seconds for a
libvirtd that is being started again; events that fell into the gap are lost, which is why nobody may rely on events
alone. No call blocks the loop, nor the end of the process, whatever libvirtd does.

libvirt's own event loop belongs to the process, can be registered once, and must run before the first connection is
opened: it gets one thread for the life of the process.

Source: libvirt-event.h (virEventRegisterDefaultImpl), libvirt-host.h (virConnectIsAlive,
virConnectRegisterCloseCallback).
"""

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

import libvirt

from launcher.hypervisor.errors import ConnectionLost, HypervisorError, NotAsked, Unanswered, Unavailable
from launcher.hypervisor.lanes import QUEUE_LIMIT_S, THREADS, Lane
from launcher.hypervisor.libvirt_tables import ERRORS, translate
from launcher.hypervisor.threads import CallThreads

T = TypeVar("T")

CALL_LIMIT_S: Final = 30.0
# The event thread answers for us within microseconds; a daemon silent for a minute, on a node that swaps, is lost.
KEEPALIVE_INTERVAL_S: Final = 10
KEEPALIVE_COUNT: Final = 6
# A libvirtd that died is back after a tenth of a second; on a node busy with twenty VMs it took two.
REOPEN_LIMIT_S: Final = 10.0
REOPEN_POLL_S: Final = 0.1


@functools.cache
def _run_event_loop() -> None:
    # By default libvirt prints every error to stderr, handled or not.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_dispatch_events, name="libvirt-events", daemon=True).start()


def _dispatch_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


class _Opened:
    """An open connection, which libvirt frees as soon as it is closed: so that happens when nobody is in a call."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._calls = 0
        self._is_over = False

    def is_alive(self) -> bool:
        with self._lock:
            return not self._is_over and bool(self._connection.isAlive())

    def use(self, function: Callable[[libvirt.virConnect], T]) -> T:
        """Call `function` with the connection; blocks."""
        with self._lock:
            if self._is_over:
                raise ConnectionLost("the connection to libvirt was closed")
            self._calls += 1
        try:
            return function(self._connection)
        finally:
            if self._leave():
                _close(self._connection)

    def end(self) -> None:
        """Close the connection, now or when the last call returns; blocks."""
        with self._lock:
            is_over, self._is_over = self._is_over, True
            is_idle = not is_over and not self._calls
        if is_idle:
            _close(self._connection)

    def _leave(self) -> bool:
        """End a call; tell whether it was the last one of a connection that is over."""
        with self._lock:
            self._calls -= 1
            return self._is_over and not self._calls


class Connection:
    """Calls libvirt at one URI.

    Args:
        uri: libvirt's name of the daemon.
        on_lifecycle: Called in the loop with a domain's UUID, the lifecycle event and its detail.
        on_watchdog: Called in the loop with a domain's UUID and what its watchdog does.
        on_lost: Called in the loop when the connection broke: events are missed until the next call.
    """

    def __init__(
        self,
        uri: str,
        *,
        on_lifecycle: Callable[[str, int, int], None],
        on_watchdog: Callable[[str, int], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._uri = uri
        self._on_lifecycle = on_lifecycle
        self._on_watchdog = on_watchdog
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._lanes = {lane: CallThreads(count, f"libvirt-{lane.value}") for lane, count in THREADS.items()}
        self._opening: asyncio.Task[_Opened] | None = None
        self._opened: _Opened | None = None
        self._reopen_until_s = 0.0

    async def call(
        self,
        function: Callable[[libvirt.virConnect], T],
        *,
        lane: Lane = Lane.LOOK,
        limit_s: float = CALL_LIMIT_S,
        undo: Callable[[libvirt.virConnect, T], None] | None = None,
    ) -> T:
        """Run `function` in a thread with the open connection.

        Args:
            function: Blocks in libvirt.
            lane: Which calls it waits for.
            limit_s: So long after the call began the caller goes on; the call itself cannot be interrupted.
            undo: Called in a thread with the connection and the result, if that arrives when nobody waits any more.

        Raises:
            HypervisorError: libvirt's error, translated.
            ConnectionLost: The connection broke meanwhile.
            Unanswered: No answer in time.
            NotAsked: It did not even begin in time.
            Unavailable: No connection.
        """
        opened = await self._open_connection()
        undo_here = functools.partial(_undo, opened, undo) if undo else None
        try:
            return await self._run(lane, functools.partial(opened.use, function), limit_s, undo_here)
        except ConnectionLost:
            raise
        except Unavailable as error:
            if not opened.is_alive():
                raise ConnectionLost(str(error)) from error
            raise

    async def close(self) -> None:
        """Close the connection."""
        try:
            if self._opening is not None:
                self._opening.cancel()
                await asyncio.wait([self._opening])
            if self._opened is not None:
                await self._run(Lane.OPEN, self._opened.end, CALL_LIMIT_S)
        finally:
            self._opened = None
            for threads in self._lanes.values():
                threads.close()

    async def _open_connection(self) -> _Opened:
        """Return the connection, opened again if it broke: once, however many calls wait for it."""
        if self._opened is not None and self._opened.is_alive():
            return self._opened
        if self._opening is None:
            self._opening = asyncio.create_task(self._reopen())
            self._opening.add_done_callback(self._forget_opening)
        try:
            return await asyncio.shield(self._opening)
        except NotAsked as error:
            raise Unavailable(f"libvirt cannot be reached: {error}") from error

    def _forget_opening(self, opening: asyncio.Task[_Opened]) -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # somebody else may have waited for it, and been cancelled meanwhile

    async def _reopen(self) -> _Opened:
        if self._opened is not None:
            lost, self._opened = self._opened, None
            self._reopen_until_s = time.monotonic() + REOPEN_LIMIT_S
            await self._run(Lane.OPEN, lost.end, CALL_LIMIT_S)
        while self._opened is None:
            try:
                self._opened = await self._run(Lane.OPEN, self._open, CALL_LIMIT_S, _Opened.end)
            except Unavailable:
                if time.monotonic() > self._reopen_until_s:
                    raise
                await asyncio.sleep(REOPEN_POLL_S)
        return self._opened

    async def _run(
        self, lane: Lane, function: Callable[[], T], limit_s: float, undo: Callable[[T], None] | None = None
    ) -> T:
        began = asyncio.Event()

        def begin() -> T:
            self._call_soon(began.set)
            return function()

        running = self._lanes[lane].submit(begin)
        try:
            await self._await_begin(running, began, QUEUE_LIMIT_S[lane])
            async with asyncio.timeout(limit_s):
                return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            self._give_up(running, undo)
            raise
        except TimeoutError as error:
            self._give_up(running, undo)
            raise Unanswered(f"libvirt did not answer within {limit_s:g} s") from error
        except libvirt.libvirtError as error:
            raise translate(error) from error

    async def _await_begin(self, running: Future[T], began: asyncio.Event, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await began.wait()
        except TimeoutError as error:
            if running.cancel():
                raise NotAsked(f"libvirt was busy with this launcher's other calls for {limit_s:g} s") from error

    def _give_up(self, running: Future[T], undo: Callable[[T], None] | None) -> None:
        if not running.cancel() and undo is not None:
            running.add_done_callback(functools.partial(self._undo_result, undo))

    def _undo_result(self, undo: Callable[[T], None], done: Future[T]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        # RuntimeError: the threads are closed, and with the connection went everything that could be undone.
        with contextlib.suppress(RuntimeError):
            self._lanes[Lane.DESTROY].submit(functools.partial(undo, done.result()))

    def _open(self) -> _Opened:
        _run_event_loop()
        connection = _opened_at(self._uri)
        connection.registerCloseCallback(self._hand_over_loss, None)
        for event, hand_over in (
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._hand_over_lifecycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG, self._hand_over_watchdog),
        ):
            connection.domainEventRegisterAny(None, event, hand_over, None)
        return _Opened(connection)

    def _hand_over_lifecycle(
        self, _: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, _opaque: None
    ) -> None:
        self._call_soon(self._on_lifecycle, domain.UUIDString(), event, detail)

    def _hand_over_watchdog(self, _: libvirt.virConnect, domain: libvirt.virDomain, action: int, _opaque: None) -> None:
        self._call_soon(self._on_watchdog, domain.UUIDString(), action)

    def _hand_over_loss(self, _: libvirt.virConnect, _reason: int, _opaque: None) -> None:
        self._call_soon(self._on_lost)

    def _call_soon(self, tell: Callable[..., None], *what: object) -> None:
        # RuntimeError: the loop closed while an event was on its way.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(tell, *what)


def _undo(opened: _Opened, undo: Callable[[libvirt.virConnect, T], None], result: T) -> None:
    opened.use(lambda connection: undo(connection, result))


def _opened_at(uri: str) -> libvirt.virConnect:
    try:
        connection = libvirt.open(uri)
        connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
    except libvirt.libvirtError as error:
        if error.get_error_code() in ERRORS:
            raise
        # Which libvirt to use is the site's to say: one that is of no use is no bug here.
        raise HypervisorError(f"the libvirt {uri} cannot be used: {error}") from error
    return connection


def _close(connection: libvirt.virConnect) -> None:
    # A lost connection cannot tell the daemon anything any more.
    with contextlib.suppress(libvirt.libvirtError):
        connection.unregisterCloseCallback()
    with contextlib.suppress(libvirt.libvirtError):
        for callback in list(connection.domainEventCallbackID):
            connection.domainEventDeregisterAny(callback)
    with contextlib.suppress(libvirt.libvirtError):
        connection.close()

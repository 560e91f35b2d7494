"""Receiving a large body straight into given memory, past the HTTP parser.

On its usual way each byte is copied three times: from the socket into a chunk, by aiohttp's parser into another, and
from there to where it belongs. Of a large body of known length nothing has to be parsed. asyncio lets a connection's
protocol be exchanged, and has a kind of protocol that says where bytes are to be received: one stands in for aiohttp's
from here to the connection's end. aiohttp's parser never learns that the body came, so the connection serves no other
request: it is closed after the answer, which says so. ADR 0024 says what was measured.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web

from broker.domain.errors import Rejected

_LOOK_S = 1.0
"""How often it is looked whether a request, of which nothing comes, was told to end."""
_THROWN_AWAY = bytearray(65_536)
"""Where bytes go that nobody wants. They may be anybody's: nobody reads them."""


class Pace(NamedTuple):
    """A sender has `patience_s` for each `piece_bytes`; one that takes longer is told that it was `too_slow`."""

    patience_s: float
    piece_bytes: int
    too_slow: Callable[[], Rejected]


class Receiving(asyncio.BufferedProtocol):
    """The rest of a body of known length, received into the views that are given to `fill`.

    The time between two fills is not the sender's. `let_go` when nothing more is filled: what still comes is thrown
    away then, so that the sender gets to read its answer.

    It is in no cycle of references, nor is what it raises: memory of some MiB would be kept until Python looked for it.
    """

    def __init__(self, request: web.BaseRequest, transport: asyncio.Transport, length: int, pace: Pace) -> None:
        """Take the connection over, whose body has begun to come, or will; aiohttp must go on with it until then."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._handler = request.protocol
        self._content = request.content
        self._pace = pace
        self._patience = _Patience(self._loop, pace)
        self._view: memoryview | None = None
        self._filled_bytes = 0
        self._filled: asyncio.Future[None] | None = None
        self._thrown_away_bytes = 0
        # With nothing left to be read from it, aiohttp's parser holds nothing back either; no byte comes meanwhile.
        self._came = memoryview(b"".join(iter(self._content.read_nowait, b"")))
        self._left_bytes = length - self._content.total_bytes
        transport.pause_reading()
        transport.set_protocol(self)
        self._handler.close()

    async def fill(self, view: memoryview) -> int:
        """Fill a view that is not empty; return how many bytes there were, fewer only at the end, where it is 0.

        Raises:
            ConnectionError: the connection was lost before that, or the broker stops.
            Rejected: `too_slow`.
            RuntimeError: bytes were lost, since somebody else had the connection read on.
        """
        if self._thrown_away_bytes:
            raise RuntimeError(f"{self._thrown_away_bytes} bytes of a body came when nobody wanted them")
        there = min(len(view), len(self._came))
        view[:there] = self._came[:there]
        self._came = self._came[there:] if there < len(self._came) else memoryview(b"")
        view = view[there : there + self._left_bytes]
        if view:
            await self._receive(view)
        return there + len(view)

    def let_go(self) -> None:
        """Throw away what still comes."""
        self._came = memoryview(b"")
        self._transport.resume_reading()

    async def _receive(self, view: memoryview) -> None:
        if self._is_lost:
            raise _loss()
        self._filled = self._loop.create_future()
        self._view, self._filled_bytes = view, 0
        self._patience.go_on(self._look)
        self._transport.resume_reading()
        try:
            await self._filled
        finally:
            self._patience.rest()
            # Whoever gave up waiting may do with its memory what it likes.
            self._view = self._filled = None
            self._transport.pause_reading()

    @property
    def _is_lost(self) -> bool:
        """Tell whether nothing comes any more, or nobody should wait for it: aiohttp has told the request so."""
        return self._content.exception() is not None or self._handler.transport is None

    def _look(self) -> None:
        """See, now and then, whether to wait on."""
        if self._is_lost:
            self._fail(_loss())
        elif self._patience.is_over:
            self._fail(self._pace.too_slow())
        else:
            self._patience.go_on(self._look)

    def _fail(self, error: Exception) -> None:
        if self._filled is not None and not self._filled.done():
            self._filled.set_exception(error)

    def get_buffer(self, sizehint: int) -> memoryview | bytearray:  # noqa: ARG002 # as the base class has it
        """Say where bytes go. Source: asyncio.BufferedProtocol, as of all that follow."""
        return _THROWN_AWAY if self._view is None else self._view[self._filled_bytes :]

    def buffer_updated(self, nbytes: int) -> None:
        """Count what came."""
        of_body = min(nbytes, self._left_bytes)  # behind it there may be more, which is nobody's
        self._left_bytes -= of_body
        if not self._left_bytes and not self._content.is_eof():
            # Or aiohttp would wait for the rest before it closes the connection.
            self._content.feed_eof()
        if self._view is None or self._filled is None:
            self._thrown_away_bytes += of_body
            return
        self._filled_bytes += nbytes
        self._patience.count(nbytes)
        if self._filled_bytes == len(self._view):
            self._view = None
            self._transport.pause_reading()
            if not self._filled.done():
                self._filled.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell aiohttp, and whoever waits."""
        self._handler.connection_lost(exc)
        self._fail(_loss())

    def eof_received(self) -> None:
        """Have the connection closed, as aiohttp has it."""
        self._handler.eof_received()

    def pause_writing(self) -> None:
        """Tell aiohttp, which writes the answer."""
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """Tell aiohttp."""
        self._handler.resume_writing()


class _Patience:
    """The time that a sender has for the next piece; it passes between `go_on` and `rest`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pace: Pace) -> None:
        self._loop = loop
        self._pace = pace
        self._left_s = pace.patience_s
        self._came_bytes = 0
        self._since_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        passed_s = 0.0 if self._since_s is None else self._loop.time() - self._since_s
        return passed_s >= self._left_s

    def go_on(self, look: Callable[[], None]) -> None:
        """Let time pass; call `look` once, when it is over, or in a while."""
        now_s = self._loop.time()
        self._since_s = now_s if self._since_s is None else self._since_s
        until_s = min(self._since_s + self._left_s, now_s + _LOOK_S)
        # A timer may come by its resolution too soon.
        self._timer = self._loop.call_at(until_s + 0.001, look)

    def rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._since_s is not None:
            self._left_s -= self._loop.time() - self._since_s
            self._since_s = None

    def count(self, came_bytes: int) -> None:
        """Note that bytes came; with enough of them the time is the whole again."""
        self._came_bytes += came_bytes
        if self._came_bytes >= self._pace.piece_bytes:
            self._left_s, self._came_bytes = self._pace.patience_s, 0
            if self._since_s is not None:
                self._since_s = self._loop.time()


def _loss() -> ConnectionError:
    # A new one for whoever is told; and of one kind, whatever it was that the network said.
    return ConnectionResetError("the connection was lost before the body was complete")

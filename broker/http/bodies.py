"""Bodies: how large, how slow and how many at once. Nothing that was compressed is read.

Whoever may send a body could send it a byte a minute, or a thousand at once, and each would stand in this process's
memory. So a sender has to come at some pace, and of those bodies that are not small only so many are read for one user
at once. A ticket and a lease token prove themselves when the body was read: those bodies share the places of nobody.
What comes through a signed address takes no place of its user's: there are as many as there are vms. One address has
few of its own, or a stranger with a shared one could hold all of the user's room, and much of this process's memory.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

from aiohttp import web

from broker.domain import limits
from broker.domain.errors import Rejected, Unavailable
from broker.files.source import Chunks
from broker.http.connections import Connection
from broker.http.receiving import Pace, Receiving
from broker.wire.problems import ProblemCode

PIECE_BYTES = 262_144
PATIENCE_S = 60.0
"""A sender that needs longer for one piece is cut off, so that it cannot keep its place for ever."""
SMALL_BYTES = 262_144
"""A body up to this size needs no place: whatever guests and launchers send by themselves is."""
_SIGNED_AT_ONCE = 4
"""One sends, and some that it gave up may not have been noticed yet."""
_CHUNK_BYTES = 1_048_576
_STRAIGHT_BYTES = 16_777_216
"""A body of this size is worth its connection, which is not used again."""


class Bodies:
    """The places of this process for bodies that are not small."""

    def __init__(self) -> None:
        self._read_for: Counter[str] = Counter()

    @contextmanager
    def place(self, user: str) -> Iterator[None]:
        """Have one of the user's places for the block.

        Raises:
            Unavailable: `too_many_bodies`.
        """
        with self._place(user, limits.default("user_bodies"), "large bodies are being read for this user"):
            yield

    @contextmanager
    def place_of_address(self, path: str) -> Iterator[None]:
        """Have one of the places of a signed address, which begins with a slash, as no user's name does.

        Raises:
            Unavailable: as `place`.
        """
        with self._place(path, _SIGNED_AT_ONCE, "bodies are being read through this address"):
            yield

    @contextmanager
    def _place(self, of: str, most: int, what: str) -> Iterator[None]:
        if self._read_for[of] >= most:
            detail = f"{most} {what} already: send this one when they are through"
            raise Unavailable(ProblemCode.TOO_MANY_BODIES, detail, retry_after_s=1)
        self._read_for[of] += 1
        try:
            yield
        finally:
            self._read_for[of] -= 1
            if not self._read_for[of]:
                del self._read_for[of]


class Body:
    """A body of any size, a source of bytes; `end` it when its reader is through."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._filling: Receiving | Chunks | None = None

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield it as it comes.

        Raises:
            Rejected: as `chunks_of`.
        """
        return chunks_of(self._request)

    async def fill(self, view: memoryview) -> int:
        """Fill a view that is not empty; return how many bytes there were, fewer only at the end, where it is 0.

        Raises:
            Rejected: as `chunks_of`.
            ConnectionError: the connection was lost.
        """
        if self._filling is None:
            self._filling = _straight(self._request) or Chunks(self.chunks())
        return await self._filling.fill(view)

    def end(self) -> None:
        """Let go of what nobody reads any more."""
        if isinstance(self._filling, Receiving):
            self._filling.let_go()


def _straight(request: web.BaseRequest) -> Receiving | None:
    """Take the connection over, where that is worth it."""
    check_encoding(request)
    transport, length, connection = request.transport, request.content_length, request.protocol
    if transport is None or length is None or length < _STRAIGHT_BYTES:
        return None
    if not isinstance(connection, Connection) or connection.is_ending or request.content.exception() is not None:
        return None
    return Receiving(request, transport, length, Pace(PATIENCE_S, PIECE_BYTES, lambda: too_slow("send it again")))


async def chunks_of(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """Yield a body of any size as it comes. The time that the reader takes between two chunks is not the sender's.

    Raises:
        Rejected: `too_slow`; `media_type_refused`.
    """
    check_encoding(request)
    if request.content.is_eof():
        # All of a small body comes with its head, and needs no clock.
        if chunk := request.content.read_nowait():
            yield chunk
        return
    clock = asyncio.get_running_loop().time
    left_s, came_bytes = PATIENCE_S, 0
    # So much may wait here while the reader is busy.
    request.content.set_read_chunk_size(_CHUNK_BYTES)
    while True:
        began_s = clock()
        try:
            async with asyncio.timeout(left_s):
                chunk = await _read(request)
        except TimeoutError as error:
            raise too_slow("send it again") from error
        if not chunk:
            return
        left_s, came_bytes = left_s - (clock() - began_s), came_bytes + len(chunk)
        if came_bytes >= PIECE_BYTES:
            left_s, came_bytes = PATIENCE_S, 0
        yield chunk


async def _read(request: web.BaseRequest) -> bytes:
    if request.content_length is None:
        # HTTP's own chunks may be of a byte each: what came of them is taken together.
        return await request.content.read(_CHUNK_BYTES)
    # As it came from the connection: to put pieces together would copy each of them once more.
    chunk, _ = await request.content.readchunk()
    return chunk


async def whole(request: web.BaseRequest, bodies: Bodies, user: str, most_bytes: int) -> bytes:
    """Read a body to its end.

    Raises:
        Rejected: `too_large`, before more than that was read; else as `chunks_of`.
        Unavailable: as `Bodies.place`.
    """
    if (request.content_length or 0) > most_bytes:
        raise _too_large(most_bytes)
    if request.content.is_eof():
        return _that_came(request, most_bytes)
    body = bytearray()
    with ExitStack() as placed:
        has_place = False
        async for chunk in chunks_of(request):
            body += chunk
            if len(body) > most_bytes:
                raise _too_large(most_bytes)
            if len(body) > SMALL_BYTES and not has_place:
                placed.enter_context(bodies.place(user))
                has_place = True
    return bytes(body)


def _that_came(request: web.BaseRequest, most_bytes: int) -> bytes:
    """Return a body that is all there: most come with their head, and need neither a clock nor a place."""
    check_encoding(request)
    body = request.content.read_nowait()
    if len(body) > most_bytes:
        raise _too_large(most_bytes)
    return body


def check_encoding(request: web.BaseRequest) -> None:
    """Refuse what is compressed: some bytes of it could become gigabytes here.

    Raises:
        Rejected: `media_type_refused`.
    """
    encoding = request.headers.get("Content-Encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        raise Rejected(
            ProblemCode.MEDIA_TYPE_REFUSED, "a compressed body is not read here: send it without Content-Encoding"
        )


def too_slow(what_to_do: str) -> Rejected:
    """Return the refusal of a sender that keeps no pace."""
    return Rejected(
        ProblemCode.TOO_SLOW, f"fewer than {PIECE_BYTES} bytes came within {PATIENCE_S:.0f} s; {what_to_do}"
    )


def _too_large(most_bytes: int) -> Rejected:
    return Rejected(ProblemCode.TOO_LARGE, f"the body is larger than the {most_bytes} bytes that this address takes")

"""Bytes between a guest and a server, until the end or until nothing moves any more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Final

from launcher.exchange.dial import Streams
from launcher.exchange.errors import Refused
from launcher.exchange.grants import Grant
from launcher.exchange.http_head import END_OF_HEAD, parse_response

CHUNK_BYTES: Final = 256 * 1024
INTERIM_ANSWERS: Final = 8


class Relay:
    """One guest's connection and one server's, coupled.

    Args:
        guest: Reader and writer of the guest's side.
        server: Reader and writer of the server's side.
        grant: Whose bytes they are.
        idle_limit_s: How long nothing may move, either way.
    """

    def __init__(self, guest: Streams, server: Streams, grant: Grant, idle_limit_s: float) -> None:
        self._from_guest, self._to_guest = guest
        self._from_server, self._to_server = server
        self._grant = grant
        self._idle_limit_s = idle_limit_s
        self._idle = asyncio.timeout(idle_limit_s)

    async def tunnel(self, greeting: bytes) -> None:
        """Greet the guest, then copy both ways until both are at their end.

        Raises:
            OSError: One of them went away.
            TimeoutError: Nothing moved.
        """
        is_broken = False
        async with self._idle:
            await self._send_guest(greeting)
            try:
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(self._copy_to_end(self._from_guest, self._to_server, self._grant.count_out))
                    ways.create_task(self._copy_to_end(self._from_server, self._to_guest, self._grant.count_in))
            except* OSError:
                is_broken = True
            if is_broken:
                raise ConnectionAbortedError("one end of the tunnel went away")
            await _flush(self._to_server)

    async def pass_on(self, head: bytes, body_bytes: int | None) -> None:
        """Send one request, its body as it comes, and give the guest the answer while it arrives.

        Args:
            head: As the server shall get it.
            body_bytes: Length of the body, None if it is chunked.

        Raises:
            Refused: The server did not answer in HTTP; the guest has got nothing yet.
            OSError: One of them went away.
            TimeoutError: Nothing moved.
        """
        async with self._idle:
            self._to_server.write(head)
            async with _beside(self._send_body(body_bytes)):
                await self._pass_answer_head()
                await self._copy(self._from_server, self._to_guest, self._grant.count_in)

    async def _send_body(self, body_bytes: int | None) -> None:
        # A server that refuses a body stops reading it; its answer, on the other way, says why.
        with contextlib.suppress(ConnectionError):
            await self._copy(self._from_guest, self._to_server, self._grant.count_out, body_bytes)

    async def _pass_answer_head(self) -> None:
        for _ in range(INTERIM_ANSWERS):
            try:
                head = await self._from_server.readuntil(END_OF_HEAD)
            except (EOFError, ConnectionError, asyncio.LimitOverrunError) as error:
                raise Refused(502, "the server ended the connection without an answer in HTTP") from error
            status, forwarded = parse_response(head)
            await self._send_guest(forwarded)
            if status >= 200:
                return
        raise Refused(502, "the server gives interim answers only")

    async def _send_guest(self, data: bytes) -> None:
        self._to_guest.write(data)
        await self._to_guest.drain()
        self._moved(self._grant.count_in, len(data))

    async def _copy_to_end(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None]
    ) -> None:
        await self._copy(reader, writer, count)
        writer.write_eof()

    async def _copy(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        count: Callable[[int], None],
        size_bytes: int | None = None,
    ) -> None:
        left_bytes = size_bytes
        while left_bytes is None or left_bytes > 0:
            chunk = await reader.read(CHUNK_BYTES if left_bytes is None else min(left_bytes, CHUNK_BYTES))
            if not chunk:
                return
            writer.write(chunk)
            await writer.drain()
            self._moved(count, len(chunk))
            left_bytes = None if left_bytes is None else left_bytes - len(chunk)

    def _moved(self, count: Callable[[int], None], size_bytes: int) -> None:
        count(size_bytes)
        if not self._idle.expired():
            self._idle.reschedule(asyncio.get_running_loop().time() + self._idle_limit_s)


async def _flush(writer: asyncio.StreamWriter) -> None:
    """Close, and wait until what was written has gone to the kernel."""
    writer.close()
    await writer.wait_closed()


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])

"""Sending a file: with ranges, never as something a browser would run, and in pieces, so that others get their turn."""

import asyncio
import base64
import os
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from broker.domain.errors import Rejected
from broker.http.strong import DigestResponse
from broker.wire.names import Digest
from broker.wire.problems import ProblemCode

SANDBOX = "default-src 'none'; sandbox"
_PIECE_BYTES = 2_097_152
_AHEAD_BYTES = 8_388_608
_TLS_PIECE_BYTES = 1_048_576


class _File(DigestResponse):
    """A file's bytes on their way; what aiohttp does with them is done in pieces.

    The kernel sends a whole file in one call to a receiver that is as quick, and for that long the loop would stand
    still; over TLS asyncio would read it by 16 KiB, with a thread's turn for each. Were aiohttp to call this method no
    more, all would still be right, and slow.
    """

    def __init__(self, location: Path, *, digest: Digest, headers: dict[str, str]) -> None:
        super().__init__(location, digest=digest, headers=headers, chunk_size=_TLS_PIECE_BYTES)

    async def _sendfile(self, request: web.BaseRequest, fobj: IO[Any], offset: int, count: int) -> AbstractStreamWriter:
        writer = await web.StreamResponse.prepare(self, request)
        transport = request.transport
        if writer is None or transport is None:
            raise ConnectionResetError("the connection is closed")
        if transport.get_extra_info("sslcontext") is not None:
            return await self._sendfile_fallback(writer, fobj, offset, count)
        loop, end, told = asyncio.get_running_loop(), offset + count, offset
        for start in range(offset, end, _PIECE_BYTES):
            if transport.is_closing():
                raise ConnectionResetError("the connection is closed")
            # What was only just written is not in memory, and the loop would stand still for the disk, too. To tell of
            # the same bytes twice would take the kernel as long as sending them.
            ahead = min(start + _AHEAD_BYTES, end)
            if ahead > told:
                os.posix_fadvise(fobj.fileno(), told, ahead - told, os.POSIX_FADV_WILLNEED)
                told = ahead
            await loop.sendfile(transport, fobj, start, min(_PIECE_BYTES, end - start))
            await asyncio.sleep(0)
        await web.StreamResponse.write_eof(self)
        return writer


def repr_digest(digest: Digest) -> str:
    """Write a digest as the field `Repr-Digest`. Source: RFC 9530."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(digest.removeprefix('sha256:'))).decode()}:"


def attachment(name: str) -> str:
    """Write `Content-Disposition` so that a browser keeps a file under its name, and never shows it."""
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def send_file(request: web.Request, location: Path, *, name: str, digest: Digest) -> web.FileResponse:
    """Answer with a file, or with the part of it that the request asks for.

    Raises:
        Rejected: `range_not_satisfiable`.
    """
    answer = _File(
        location,
        digest=digest,
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Disposition": attachment(name),
            "Content-Security-Policy": SANDBOX,
            "Repr-Digest": repr_digest(digest),
            "Cache-Control": "private, no-cache",
        },
    )
    if not answer.is_range_of_others(request):
        _check_range(request, location)
    return answer


def _check_range(request: web.Request, location: Path) -> None:
    size_bytes = location.stat().st_size
    try:
        start = request.http_range.start
    except ValueError as error:
        raise Rejected(ProblemCode.RANGE_NOT_SATISFIABLE, "the Range header cannot be read: see RFC 9110") from error
    # The last bytes begin, however many are asked for, not before the first one: below 0 it says how many.
    if start is not None and max(start, 0) >= size_bytes:
        raise Rejected(ProblemCode.RANGE_NOT_SATISFIABLE, f"there are {size_bytes} bytes: ask for a range among them")

"""A server of one image with the habits, good and bad, that servers have; and the images themselves."""

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.client.session import Session
from launcher.images import Image

_PIECE_BYTES: Final = 1 << 16


@dataclass
class ImageServer:
    """Serves its content at any path; the first `cuts` connections break after `cut_bytes` of what was asked."""

    content: bytes
    cuts: int = 0
    cut_bytes: int = 1 << 20
    honours_ranges: bool = True
    etag: str | None = None
    next_content: tuple[bytes, str] | None = None
    """What it serves, and under which tag, after it was cut."""
    refuses: dict[str, int] = field(default_factory=dict)
    """Status by path."""
    refuses_after_cut: int | None = None
    drips: bool = False
    """Sends a byte at a time, for ever so long."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        wanted = request.headers.get("Range")
        self.asked.append((request.path, wanted))
        if request.path in self.refuses:
            raise _status(self.refuses[request.path])
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self._holds(request) else None
        if start is not None and start >= len(self.content):
            raise _status(416)
        return await self._send(request, start)

    def _holds(self, request: web.Request) -> bool:
        return self.honours_ranges and request.headers.get("If-Range", self.etag) == self.etag

    async def _send(self, request: web.Request, start: int | None) -> web.StreamResponse:
        body = self.content[start or 0 :]
        headers = {"Content-Length": str(len(body))}
        if start is not None:
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        if self.etag is not None:
            headers["ETag"] = self.etag
        response = web.StreamResponse(status=200 if start is None else 206, headers=headers)
        await response.prepare(request)
        if self.cuts:
            self.cuts -= 1
            # In pieces: a client loses what it has not read when the connection breaks, and is to have read most.
            for start_of_piece in range(0, min(self.cut_bytes, len(body)), _PIECE_BYTES):
                await response.write(body[start_of_piece : min(start_of_piece + _PIECE_BYTES, self.cut_bytes)])
                await asyncio.sleep(0)
            assert request.transport is not None
            # A closed connection delivers what was written; an aborted one may not.
            request.transport.close()
            if self.refuses_after_cut is not None:
                self.refuses[request.path] = self.refuses_after_cut
            if self.next_content is not None:
                self.content, self.etag = self.next_content
            return response
        if self.drips:
            with suppress(ConnectionError):
                for byte in body:
                    await response.write(bytes([byte]))
                    await asyncio.sleep(0.01)
            return response
        await response.write(body)
        return response

    async def was_asked(self) -> bool:
        return bool(self.asked)

    @property
    def ranges(self) -> list[str | None]:
        return [wanted for _, wanted in self.asked]


def _status(status: int) -> web.HTTPException:
    error = web.HTTPNotFound() if status == 404 else web.HTTPForbidden() if status == 403 else web.HTTPGone()
    error.set_status(status)
    return error


@asynccontextmanager
async def serving(server: ImageServer) -> AsyncIterator[tuple[Session, str]]:
    """Serve; give a session and the image's address."""
    application = web.Application()
    application.router.add_get("/{name:.*}", server.answer)
    async with TestServer(application) as http, Session(str(http.make_url("/"))) as session:
        yield session, str(http.make_url("/image"))


def qemu_img(*arguments: str) -> None:
    subprocess.run(["qemu-img", *arguments], check=True)


def qcow2(folder: Path, data_mib: int = 2) -> bytes:
    """Return a qcow2 image of 64 MiB with some data in it."""
    path = folder / "made.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", str(path), "64M")
    command = f"write -P {data_mib} 0 {data_mib}M"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, str(path)], check=True, capture_output=True)
    return path.read_bytes()


def image_of(content: bytes, image_format: str = "qcow2") -> Image:
    return Image(f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), image_format)

"""HTTP by hand: bytes as no client would send them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from yarl import URL

ANSWER_S = 20.0
"""A bound on waiting for an answer, not on how long it takes."""


@dataclass(frozen=True)
class RawAnswer:
    """What came back; `is_closed`: nothing came after it, for the connection was closed."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The problem's code; fails when it is none as every error must be."""
        assert self.headers["content-type"] == "application/problem+json", self
        assert self.headers["x-content-type-options"] == "nosniff", self
        said: dict[str, Any] = msgspec.json.decode(self.body)
        assert said["request_id"] == self.headers["x-request-id"], self
        assert said["status"] == self.status, self
        return str(said["code"])


class Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> bool:
        """Send; False when nobody takes it any more."""
        try:
            self._writer.write(data)
            async with asyncio.timeout(ANSWER_S):
                await self._writer.drain()
        except ConnectionError:
            return False
        return not self._writer.is_closing()

    async def answer(self) -> RawAnswer:
        """Return the next answer; fails when none comes."""
        async with asyncio.timeout(ANSWER_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("ascii")
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return RawAnswer(int(first.split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Return whatever comes until the other side closes; fails when it does not."""
        came = b""
        async with asyncio.timeout(ANSWER_S):
            try:
                while chunk := await self._reader.read(65_536):
                    came += chunk
            except ConnectionError:
                pass
        return came


@asynccontextmanager
async def dialled(url: str, context: ssl.SSLContext | None = None) -> AsyncIterator[Line]:
    """Connect to a broker; with a `context`, by TLS."""
    where = URL(url)
    reader, writer = await asyncio.open_connection(where.host, where.port, ssl=context)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


def head(method: str, path: str, token: str | None = None, **headers: str) -> bytes:
    """Return the head of a request; underscores in names of headers become dashes."""
    sent = {"Host": "broker", **({} if token is None else {"Authorization": f"Bearer {token}"})}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join([*lines, "", ""]).encode()

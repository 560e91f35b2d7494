"""A researcher's server: it takes callbacks on loopback, over TLS, keeps what it was told, and answers as it is bid."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.client.origins import Origin
from tests.support.authority import Authority

SAID = "what-the-receiver-said"
"""In every answer: nobody is to be shown it."""
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Told(NamedTuple):
    """One request. Names of headers are found in any case."""

    headers: Mapping[str, str]
    body: bytes


class Receiver:
    """`answer` is what it does with the next requests."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.answer: Answering = with_status(200)
        self.url = ""

    @property
    def origin(self) -> Origin:
        return Origin.parse(self.url)

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.told.append(Told(request.headers, await request.read()))
        return await self.answer(request)


@asynccontextmanager
async def receiving(authority: Authority, folder: Path, *hosts: str) -> AsyncIterator[Receiver]:
    """A receiver at `url`, with a certificate of the authority for these hosts; for 127.0.0.1 without any."""
    receiver, app = Receiver(), web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", receiver.take)
    server = TestServer(app, host="127.0.0.1", scheme="https")
    await server.start_server(ssl=authority.server_context(folder, *(hosts or ("127.0.0.1",))))
    receiver.url = f"https://127.0.0.1:{server.port}/hook"
    try:
        yield receiver
    finally:
        await server.close()


def with_status(status: int, **headers: str) -> Answering:
    async def answer(_: web.Request) -> web.StreamResponse:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=SAID, headers={"X-Said": SAID, **sent})

    return answer


async def never(_: web.Request) -> web.StreamResponse:
    """Take the request, and say nothing."""
    await asyncio.Event().wait()
    raise AssertionError


async def close(request: web.Request) -> web.StreamResponse:
    """Take the request, and close the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def huge(request: web.Request) -> web.StreamResponse:
    """Answer 200, and then more than anybody may want."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:  # until nobody reads any more
        await response.write(SAID.encode() * 1_000)


async def dripping(request: web.Request) -> web.StreamResponse:
    """Answer 200, and then a byte now and then."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b".")
        await asyncio.sleep(0.01)


async def dripping_head(request: web.Request) -> web.StreamResponse:
    """Begin an answer whose head never ends."""
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 200 OK\r\n")
    while not request.transport.is_closing():
        request.transport.write(f"X-{SAID}: x\r\n".encode())
        await asyncio.sleep(0.01)
    return web.Response()

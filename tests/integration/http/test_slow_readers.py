"""Readers that ask for events and take none: what they cost, and what becomes of them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from broker.domain.limits import LIMITS
from broker.http import following
from broker.store import Store
from broker.store.embedded import EmbeddedStore
from broker.wire.names import StreamRef, UserName
from tests.support.api import Api, add_stream
from tests.support.waiting import until

ALICE = UserName("alice")
LOGGED = 20_000
EVENT_BYTES = 400
"""Of one such event in JSON, at least."""
MOST_BUFFERED_BYTES = 262_144
_FILL = """
local at = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1]
local epoch, seq = string.match(at, '^(%d+)-(%d+)$')
for each = 1, ARGV[1] do
  redis.call('XADD', KEYS[1], epoch .. '-' .. (seq + each), 'job', 'render', 'id', '1-' .. each, 'kind', 'item.ready',
    'at_ms', 1, 'number', '1', 'data', '{"sentence":"' .. string.rep('x', 250) .. '"}')
end
"""
Watched = dict[web.StreamResponse, int]


@pytest.fixture
def buffered(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """The bytes that the broker keeps for each reader, the most there were after any write of its."""
    most: Watched = {}
    write = web.StreamResponse.write

    async def watched(answer: web.StreamResponse, data: bytes) -> None:
        transport = answer._req.transport if answer._req is not None else None
        writing = asyncio.ensure_future(write(answer, data))
        await asyncio.sleep(0)
        if transport is not None:
            most[answer] = max(most.get(answer, 0), transport.get_write_buffer_size())
        await writing

    monkeypatch.setattr(web.StreamResponse, "write", watched)
    return most


@pytest.mark.parametrize("path", ["/v1/streams/alice/render/events", "/v1/events"])
async def test_reader_that_takes_nothing_costs_little_and_is_closed(
    user: Api, buffered: Watched, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    monkeypatch.setattr(following, "SLOW_READER_S", 0.5)
    monkeypatch.setitem(LIMITS, "token_followers", LIMITS["token_followers"]._replace(default=1))
    await add_stream(user)
    await _fill(tmp_path / "data")

    async with _stuck(user, path) as reader:

        async def is_free_again() -> bool:
            return (
                await user.call("GET", f"{path}?after=99-9", headers={"Accept": "application/x-ndjson"})
            ).status == 200

        assert not await is_free_again()
        await until(is_free_again, "the place of the reader that was closed")
        taken = await _rest(reader)

    [stuck] = [size for size in buffered.values() if size]
    assert stuck <= MOST_BUFFERED_BYTES
    assert len(taken) < LOGGED * EVENT_BYTES / 2


async def _fill(data: Path) -> None:
    """Put far more into the log and the feed than what any buffer should take."""
    store = await Store.connect(EmbeddedStore(data / "store").url)
    try:
        for log in (store._keys.of_stream(StreamRef(ALICE, "render")).events, store._keys.feed(ALICE)):
            await store._server.command("EVAL", _FILL, 1, log, LOGGED)
    finally:
        await store.close()


@asynccontextmanager
async def _stuck(user: Api, path: str) -> AsyncIterator[asyncio.StreamReader]:
    """A reader with small buffers that asks, and reads no more than the beginning of the answer."""
    url = URL(user.url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (url.host, url.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1_024)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {user.token}\r\n\r\n".encode())
        assert b" 200 " in await reader.readline()
        yield reader
    finally:
        writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    taken = b""
    try:
        while chunk := await reader.read(65_536):
            taken += chunk
    except ConnectionResetError:
        pass
    return taken

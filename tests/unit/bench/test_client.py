import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.broker.drive import Address
from bench.data import client
from bench.failing import BenchFailed
from bench.memory import peak_of, resident_mib

CONTENT = os.urandom(3 << 20)


@asynccontextmanager
async def keeping() -> AsyncIterator[Address]:
    """Serve one address that keeps what it is given."""
    kept: list[bytes] = []

    async def put(request: web.Request) -> web.Response:
        kept.append(await request.read())
        return web.Response(status=201)

    async def get(_: web.Request) -> web.Response:
        return web.Response(body=kept[-1])

    async def delete(_: web.Request) -> web.Response:
        kept.pop()
        return web.Response(status=204)

    app = web.Application(client_max_size=2 * len(CONTENT))
    app.add_routes([web.put("/f", put), web.get("/f", get), web.delete("/f", delete)])
    async with TestServer(app, host="127.0.0.1") as server:
        yield ("127.0.0.1", server.port or 0)


async def test_what_is_sent_is_what_comes_back(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)

    def talk(address: Address) -> str:
        assert client.put(address, "/f", tmp_path / "file") > 0
        assert client.get(address, "/f", len(CONTENT)) > 0
        digest = client.digest_of(address, "/f", len(CONTENT))
        client.delete(address, "/f")
        return digest

    async with keeping() as address:
        assert await asyncio.to_thread(talk, address) == hashlib.sha256(CONTENT).hexdigest()


async def test_an_answer_that_says_no_and_one_that_is_too_short_measure_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)

    def talk(address: Address) -> None:
        with pytest.raises(BenchFailed, match="answered 404"):
            client.put(address, "/elsewhere", tmp_path / "file")
        client.put(address, "/f", tmp_path / "file")
        with pytest.raises(BenchFailed, match="never came"):
            client.get(address, "/f", len(CONTENT) + 1)
        with pytest.raises(BenchFailed, match="more than"):
            client.get(address, "/f", 1)

    async with keeping() as address:
        await asyncio.to_thread(talk, address)


def test_the_peak_is_that_of_the_block() -> None:
    before_mib = resident_mib(os.getpid())
    with peak_of(os.getpid()) as peak:
        # Touched and gone again before the end.
        assert len(bytearray(os.urandom(1) * (64 << 20))) == 64 << 20

    assert 60 <= peak.mib - before_mib <= 200

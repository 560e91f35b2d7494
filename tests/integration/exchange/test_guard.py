"""The launcher's own requests to addresses that somebody else wrote."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.client.download import fetch
from broker.client.guarded import GuardedConnector
from broker.client.origins import Origin
from broker.client.session import Session, Unreachable
from broker.wire.leases import SignedUrl
from launcher.exchange.dial import judge_of_site


async def _file(_: web.Request) -> web.Response:
    return web.Response(body=b"content")


async def _away(request: web.Request) -> web.Response:
    raise web.HTTPFound(request.query["to"])


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_get("/file", _file)
    app.router.add_get("/away", _away)
    server = TestServer(app)
    async with server:
        yield server


@asynccontextmanager
async def guarded(*trusted: str, redirects: int = 0) -> AsyncIterator[Session]:
    def make_connector() -> GuardedConnector:
        return GuardedConnector(judge_of_site(Origin.parse(origin) for origin in trusted))

    async with Session("http://broker.example", make_connector=make_connector, redirects=redirects) as session:
        yield session


def address(url: str) -> SignedUrl:
    return SignedUrl(url=url, target=url)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0"])
async def test_the_nodes_own_network_is_out_of_reach(server: TestServer, tmp_path: Path, host: str) -> None:
    async with guarded() as session:
        with pytest.raises(Unreachable) as refused:
            await fetch(session, address(f"http://{host}:{server.port}/file"), tmp_path / "file")

    assert refused.value.is_lasting
    assert "address" in str(refused.value)


async def test_the_clouds_metadata_is_out_of_reach(tmp_path: Path) -> None:
    async with guarded() as session:
        with pytest.raises(Unreachable, match="link-local"):
            await fetch(session, address("http://169.254.169.254/latest"), tmp_path / "file")


async def test_what_the_site_trusts_is_fetched(server: TestServer, tmp_path: Path) -> None:
    async with guarded(f"localhost:{server.port}") as session:
        fetched = await fetch(session, address(f"http://localhost:{server.port}/file"), tmp_path / "file")

    assert (tmp_path / "file").read_bytes() == b"content"
    assert fetched.size_bytes == 7


async def test_a_redirect_is_no_input(server: TestServer, tmp_path: Path) -> None:
    url = f"http://localhost:{server.port}/away?to=/file"
    async with guarded(f"localhost:{server.port}") as session:
        with pytest.raises(Unreachable, match="302"):
            await fetch(session, address(url), tmp_path / "file")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_a_redirect_that_is_followed_is_judged_anew(server: TestServer, tmp_path: Path, host: str) -> None:
    url = f"http://localhost:{server.port}/away?to=http://{host}:{server.port}/file"
    async with guarded(f"localhost:{server.port}", redirects=3) as session:
        with pytest.raises(Unreachable, match="loopback"):
            await fetch(session, address(url), tmp_path / "file")


async def test_a_file_larger_than_its_room_is_cut_off(server: TestServer, tmp_path: Path) -> None:
    async with guarded(f"localhost:{server.port}") as session:
        with pytest.raises(Unreachable, match="more than the 3 bytes"):
            await fetch(session, address(f"http://localhost:{server.port}/file"), tmp_path / "file", limit_bytes=3)

import asyncio
import contextlib
import hashlib
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.client.origins import Origin
from launcher.exchange import proxy as proxy_module
from launcher.exchange.dial import Streams, judge_of_site
from launcher.exchange.grants import Grant
from launcher.exchange.proxy import Proxy

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LIMIT_S = 20
ASKED = web.AppKey("asked", asyncio.Event)
BODY = bytes(range(256)) * 16_384  # 4 MiB: more than every buffer on the way


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    async def echo(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"X-Method": request.method, "X-Seen": repr(sorted(request.headers))})
        await response.prepare(request)
        async for chunk in request.content.iter_chunked(65_536):
            await response.write(chunk)
        return response

    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=507, text="no space")

    async def ranged(request: web.Request) -> web.Response:
        wanted = request.http_range
        return web.Response(status=206, body=BODY[wanted])

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b"x" * 10)
        assert request.transport is not None
        request.transport.abort()
        return response

    async def silent(request: web.Request) -> web.Response:
        app[ASKED].set()
        await asyncio.sleep(LIMIT_S)
        return web.Response()

    app = web.Application(client_max_size=0)
    app[ASKED] = asyncio.Event()
    for path, handler in {"echo": echo, "refuse": refuse, "range": ranged, "cut": cut, "silent": silent}.items():
        app.router.add_route("*", f"/{path}", handler)
    started = TestServer(app, host="127.0.0.1")
    async with started:
        yield started


class Bench:
    """A proxy that trusts one server, one vm admitted to it, and that vm's HTTP client."""

    def __init__(self, proxy: Proxy, server: TestServer, listener: socket.socket) -> None:
        assert server.port is not None
        self.proxy = proxy
        self.origin = Origin("127.0.0.1", server.port)
        self.port: int = listener.getsockname()[1]
        self.grant = proxy.admit("vm-1", [self.origin])

    def url(self, path: str) -> str:
        return f"http://{self.origin}/{path}"

    def proxy_url(self, grant: Grant | None = None) -> str:
        return (grant or self.grant).proxy_url(self.port).replace("10.0.2.2", "127.0.0.1")


@pytest.fixture
async def bench(server: TestServer, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    assert server.port is not None
    idle_limit_s = getattr(request, "param", 10.0)
    proxy = Proxy([Origin("127.0.0.1", server.port)], idle_limit_s=idle_limit_s)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(proxy.serve(listener))
        yield Bench(proxy, server, listener)
        serving.cancel()
        await asyncio.wait([serving])


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT_S)) as session:
        yield session


async def chunks() -> AsyncIterator[bytes]:
    for start in range(0, len(BODY), 100_000):
        yield BODY[start : start + 100_000]


@pytest.mark.parametrize("expect100", [False, True])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_passes_both_ways_unchanged(
    bench: Bench, client: aiohttp.ClientSession, is_chunked: bool, expect100: bool
) -> None:
    body = chunks() if is_chunked else io.BytesIO(BODY)
    async with client.put(bench.url("echo"), data=body, proxy=bench.proxy_url(), expect100=expect100) as response:
        received = await response.read()
    assert hashlib.sha256(received).digest() == hashlib.sha256(BODY).digest()
    assert "Proxy-Authorization" not in response.headers["X-Seen"]
    assert bench.grant.bytes_in > len(BODY)
    assert bench.grant.bytes_out > len(BODY)
    assert not bench.grant.refusals


async def test_a_range_is_passed_on(bench: Bench, client: aiohttp.ClientSession) -> None:
    headers = {"Range": "bytes=1000-1999"}
    async with client.get(bench.url("range"), headers=headers, proxy=bench.proxy_url()) as response:
        assert (response.status, await response.read()) == (206, BODY[1000:2000])


async def test_a_head_request_ends(bench: Bench, client: aiohttp.ClientSession) -> None:
    async with client.head(bench.url("echo"), proxy=bench.proxy_url()) as response:
        assert (response.status, response.headers["X-Method"]) == (200, "HEAD")


async def test_a_server_that_refuses_a_body_early_is_heard(bench: Bench, client: aiohttp.ClientSession) -> None:
    async with client.put(bench.url("refuse"), data=b"x" * 100_000, proxy=bench.proxy_url()) as response:
        assert (response.status, await response.text()) == (507, "no space")


async def test_an_answer_cut_short_is_not_taken_for_complete(bench: Bench, client: aiohttp.ClientSession) -> None:
    async with client.get(bench.url("cut"), proxy=bench.proxy_url()) as response:
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def connect(bench: Bench, origin: Origin) -> tuple[bytes, Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    auth = aiohttp.encode_basic_auth(bench.grant.vm, bench.grant._password)
    writer.write(f"CONNECT {origin} HTTP/1.1\r\nProxy-Authorization: {auth}\r\n\r\n".encode())
    async with asyncio.timeout(LIMIT_S):
        return await reader.readuntil(b"\r\n\r\n"), (reader, writer)


async def test_a_tunnel_carries_bytes_both_ways_and_passes_each_end_on(bench: Bench) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await reader.read()  # until our end, which only a passed on half-close can bring
        writer.write(heard.upper() * 50_000)
        writer.close()

    async with await asyncio.start_server(shout, "127.0.0.1", 0) as listener:
        origin = Origin("127.0.0.1", listener.sockets[0].getsockname()[1])
        bench.grant.allow(origin)
        bench.proxy._judge = judge_of_site([origin])
        head, (reader, writer) = await connect(bench, origin)
        assert head.startswith(b"HTTP/1.1 200 ")
        writer.write(b"hello")
        writer.write_eof()
        async with asyncio.timeout(LIMIT_S):
            assert await reader.read() == b"HELLO" * 50_000
        writer.close()


async def test_a_host_that_is_not_allowed_is_refused_and_named(bench: Bench, client: aiohttp.ClientSession) -> None:
    async with client.get("http://share.example/x", proxy=bench.proxy_url()) as response:
        assert response.status == 403
        assert "share.example:80 is not among the hosts this item may reach" in await response.text()
    assert [(refusal.origin, refusal.status) for refusal in bench.grant.refusals] == [
        (Origin("share.example", 80), 403)
    ]


async def test_a_refusal_of_a_tunnel_says_why_in_its_phrase(bench: Bench, client: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.ClientHttpProxyError, match=r"share\.example:443 is not among the hosts"):
        await client.get("https://share.example/x", proxy=bench.proxy_url())


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "127.1", "2130706433", "0.0.0.0"]
)
async def test_an_allowed_name_with_an_address_of_the_node_is_refused(
    bench: Bench, client: aiohttp.ClientSession, host: str
) -> None:
    origin = Origin.parse(f"http://{host}:9/")
    bench.grant.allow(origin)
    async with client.get(f"http://{host}:9/", proxy=bench.proxy_url()) as response:
        assert response.status == 403
        assert "only the site can let vms go there" in await response.text()
    assert bench.grant.refusals[-1].origin == origin


async def test_trust_of_an_origin_is_not_permission_for_a_vm(bench: Bench, client: aiohttp.ClientSession) -> None:
    other = bench.proxy.admit("vm-2", [])
    async with client.get(bench.url("echo"), proxy=bench.proxy_url(other)) as response:
        assert response.status == 403


async def test_without_the_vms_credentials_nothing_passes(bench: Bench, client: aiohttp.ClientSession) -> None:
    for credentials in ("", "vm-1:wrong@", "vm-9:x@"):
        async with client.get(bench.url("echo"), proxy=f"http://{credentials}127.0.0.1:{bench.port}") as response:
            assert response.status == 407
            assert response.headers["Proxy-Authenticate"].startswith("Basic ")


async def test_a_dismissed_vm_is_cut_off_in_the_middle(
    bench: Bench, server: TestServer, client: aiohttp.ClientSession
) -> None:
    # POST: a client repeats a GET whose connection breaks.
    waiting = asyncio.create_task(client.post(bench.url("silent"), proxy=bench.proxy_url()).__aenter__())
    async with asyncio.timeout(LIMIT_S):
        await server.app[ASKED].wait()
        bench.proxy.dismiss("vm-1")
        with pytest.raises(aiohttp.ClientError):
            await waiting
    async with client.get(bench.url("echo"), proxy=bench.proxy_url()) as response:
        assert response.status == 407


async def test_a_server_that_is_not_there_is_named(bench: Bench, client: aiohttp.ClientSession) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        origin = Origin("127.0.0.1", closed.getsockname()[1])
    bench.grant.allow(origin)
    bench.proxy._judge = judge_of_site([origin])
    async with client.get(f"http://{origin}/", proxy=bench.proxy_url()) as response:
        assert response.status == 502
        assert f"{origin} cannot be reached: " in await response.text()


async def test_an_unknown_name_is_named(bench: Bench, client: aiohttp.ClientSession) -> None:
    bench.grant.allow(Origin("nowhere.invalid", 80))
    async with client.get("http://nowhere.invalid/", proxy=bench.proxy_url()) as response:
        assert response.status in (502, 504)
        assert "nowhere.invalid" in await response.text()


@pytest.mark.parametrize("bench", [0.2], indirect=True)
async def test_a_connection_on_which_nothing_moves_is_cut(bench: Bench, client: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.ClientError):
        await client.get(bench.url("silent"), proxy=bench.proxy_url())


async def test_a_vm_has_only_so_many_connections(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "CONNECTIONS_PER_VM", 2)
    opened = [await connect(bench, bench.origin) for _ in range(3)]
    for _, (_, writer) in opened:
        writer.transport.abort()
    assert [head.split()[1] for head, _ in opened] == [b"200", b"200", b"503"]


async def test_connections_that_show_no_credentials_shut_nobody_out(
    bench: Bench, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_module, "CONNECTIONS", 2)
    monkeypatch.setattr(proxy_module, "STRANGERS", 4)
    silent = [await asyncio.open_connection("127.0.0.1", bench.port) for _ in range(10)]
    async with client.head(bench.url("echo"), proxy=bench.proxy_url()) as response:
        assert response.status == 200
    async with asyncio.timeout(LIMIT_S):
        # The oldest are dropped for whoever comes; a reset is as good as an end.
        for reader, _ in silent[:6]:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
    assert not silent[-1][0].at_eof()
    for _, writer in silent:
        writer.transport.abort()


async def test_a_head_without_end_is_refused(bench: Bench) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    writer.write(b"GET http://a.example/ HTTP/1.1\r\n" + b"A: b\r\n" * 20_000)
    async with asyncio.timeout(LIMIT_S):
        assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
    writer.transport.abort()

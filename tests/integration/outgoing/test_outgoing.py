"""The broker's own requests to addresses that others have a say in, with real servers on loopback."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.client import judging
from broker.client.judging import AddressRefused, NotResolved, Resolve
from broker.client.origins import Origin, why_refused
from broker.client.outgoing import Bounds, OutgoingClient
from broker.client.session import Unreachable
from tests.support.authority import Authority
from tests.support.receivers import SAID, dripping, huge

SEEN = web.AppKey("seen", list[web.Request])


async def _file(_: web.Request) -> web.Response:
    return web.Response(text="content", headers={"Set-Cookie": "a=b", "Connection": "close"})


async def _status(request: web.Request) -> web.Response:
    return web.Response(status=int(request.query["status"]), text=SAID)


async def _away(request: web.Request) -> web.Response:
    return web.Response(status=int(request.query.get("status", "302")), headers={"Location": request.query["to"]})


async def _packed(_: web.Request) -> web.Response:
    return web.Response(body=gzip.compress(bytes(1_000_000)), headers={"Content-Encoding": "gzip"})


async def _echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), headers={"X-Type": request.content_type})


def _app() -> web.Application:
    @web.middleware
    async def remember(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        request.app[SEEN].append(request)
        return await handler(request)

    app = web.Application(middlewares=[remember])
    app[SEEN] = []
    app.router.add_get("/file", _file)
    app.router.add_get("/status", _status)
    app.router.add_route("*", "/away", _away)
    app.router.add_get("/large", huge)
    app.router.add_get("/drip", dripping)
    app.router.add_get("/packed", _packed)
    app.router.add_post("/echo", _echo)
    return app


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    server = TestServer(_app(), host="127.0.0.1")
    async with server:
        yield server


@pytest.fixture
async def other() -> AsyncIterator[TestServer]:
    server = TestServer(_app(), host="127.0.0.1")
    async with server:
        yield server


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@asynccontextmanager
async def serving_tls(authority: Authority, folder: Path, *hosts: str) -> AsyncIterator[int]:
    server = TestServer(_app(), host="127.0.0.1", scheme="https")
    await server.start_server(ssl=authority.server_context(folder, *hosts))
    assert server.port is not None
    try:
        yield server.port
    finally:
        await server.close()


def trusting(*servers: TestServer) -> OutgoingClient:
    return OutgoingClient(Origin("127.0.0.1", server.port or 0) for server in servers)


def url(server: TestServer, path: str) -> str:
    return f"http://127.0.0.1:{server.port}{path}"


class Names:
    """A resolver whose answers are what a test says, one after the other; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def test_what_the_operator_trusts_is_got_wherever_it_is(server: TestServer) -> None:
    async with trusting(server) as client:
        answer = await client.get(url(server, "/file"))

    assert (answer.status, answer.body) == (200, b"content")


async def test_a_body_is_sent_and_the_answer_comes_back(server: TestServer) -> None:
    async with trusting(server) as client:
        answer = await client.post(url(server, "/echo"), b"{}", headers={"Content-Type": "application/json"})

    assert (answer.status, answer.body, answer.headers["x-type"]) == (200, b"{}", "application/json")


async def test_a_head_is_an_answer_without_a_body_and_follows_no_redirect(server: TestServer) -> None:
    async with trusting(server) as client:
        answer = await client.head(url(server, "/file"))
        with pytest.raises(Unreachable, match="not followed"):
            await client.head(url(server, "/away?to=/file"), bounds=Bounds(redirects=3))

    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "7")


@pytest.mark.parametrize("status", [204, 404, 410, 500, 503])
async def test_any_status_is_an_answer(server: TestServer, status: int) -> None:
    async with trusting(server) as client:
        assert (await client.get(url(server, f"/status?status={status}"))).status == status


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "0", "[::1]", "[::]",
        "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::1]", "169.254.169.254", "[fd00:ec2::254]", "10.0.0.1",
        "100.64.0.1", "[::ffff:a9fe:a9fe]", "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "localhost.",
    ],
)  # fmt: skip
async def test_no_notation_of_an_address_that_is_not_public_gets_through(
    server: TestServer, authority: Authority, host: str
) -> None:
    async with OutgoingClient(ca_pem=authority.ca_pem) as client:
        with pytest.raises(AddressRefused) as refused:
            await client.get(f"https://{host}:{server.port}/file")

    assert refused.value.is_lasting


async def test_trust_is_of_a_host_and_a_port(server: TestServer, other: TestServer) -> None:
    async with trusting(server) as client:
        with pytest.raises(Unreachable, match="without TLS"):
            await client.get(url(other, "/file"))
        with pytest.raises(AddressRefused, match="loopback"):
            await client.get(f"https://127.0.0.1:{other.port}/file")


async def test_plain_http_is_for_trusted_origins_alone() -> None:
    async with OutgoingClient() as client:
        with pytest.raises(Unreachable, match=r"http://share\.example/a is without TLS") as refused:
            await client.get("http://share.example/a?token=x")

    assert refused.value.is_lasting


@pytest.mark.parametrize(
    "address",
    ["ftp://share.example/", "file:///etc/passwd", "/etc/passwd", "share.example", "https://", "https://[::1", ""],
)
async def test_only_web_addresses_are_asked(address: str) -> None:
    async with OutgoingClient() as client:
        with pytest.raises(Unreachable, match="address"):
            await client.get(address)


async def test_an_address_with_somebodys_name_in_it_is_refused(server: TestServer) -> None:
    async with trusting(server) as client:
        with pytest.raises(Unreachable, match="user's name") as refused:
            await client.get(f"http://alice:secret@127.0.0.1:{server.port}/file")

    assert "secret" not in str(refused.value)


async def test_of_a_names_addresses_only_those_that_pass_are_tried(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _let_pass(monkeypatch, "127.0.0.1")
    names = Names(["10.0.0.1", "127.0.0.1", "::1"])
    async with serving_tls(authority, tmp_path, "mixed.example") as port, _asking(authority, names) as client:
        assert (await client.get(f"https://mixed.example:{port}/file")).body == b"content"


async def test_a_name_that_changes_its_mind_gains_nothing(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _let_pass(monkeypatch, "127.0.0.1")
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with serving_tls(authority, tmp_path, "rebinding.example") as port, _asking(authority, names) as client:
        address = f"https://rebinding.example:{port}/file"

        assert (await client.get(address)).body == b"content"
        # Asked once, so the connection went to what was judged. The server closed it, so the next one is a new one.
        assert names.asked == ["rebinding.example"]
        with pytest.raises(AddressRefused, match=r"loopback address \(127\.0\.0\.2\)"):
            await client.get(address)


@pytest.mark.parametrize("address", ["::ffff:127.0.0.1", "::ffff:10.1.2.3", "64:ff9b::a00:1", "fe80::1%lo", "fec0::1"])
async def test_a_name_for_an_address_within_an_address_is_refused(authority: Authority, address: str) -> None:
    async with _asking(authority, Names([address])) as client:
        with pytest.raises(AddressRefused):
            await client.get("https://folded.example/")


async def test_a_name_without_an_address_may_have_one_later(authority: Authority) -> None:
    async with _asking(authority, Names([])) as client:
        with pytest.raises(NotResolved) as failed:
            await client.get("https://nowhere.example/")

    assert not failed.value.is_lasting


async def test_a_name_server_that_is_silent_is_waited_for_within_the_bounds(authority: Authority) -> None:
    async def silent(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    async with _asking(authority, silent) as client:
        with pytest.raises(Unreachable, match="not answered within"):
            await client.get("https://slow.example/", bounds=Bounds(total_s=0.1))


async def test_a_redirect_is_not_followed(server: TestServer) -> None:
    async with trusting(server) as client:
        with pytest.raises(Unreachable, match="not followed") as refused:
            await client.get(url(server, f"/away?to=/{SAID}"))

    assert refused.value.is_lasting
    assert SAID not in str(refused.value)
    assert [request.path for request in server.app[SEEN]] == ["/away"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_body_follows_no_redirect(server: TestServer, status: int) -> None:
    async with trusting(server) as client:
        with pytest.raises(Unreachable, match="not followed"):
            await client.post(url(server, f"/away?status={status}&to=/echo"), b"{}", bounds=Bounds(redirects=3))


async def test_redirects_are_followed_as_far_as_is_allowed(server: TestServer) -> None:
    async with trusting(server) as client:
        twice = url(server, "/away?to=/away?to%3D/file")
        assert (await client.get(twice, bounds=Bounds(redirects=2))).body == b"content"
        with pytest.raises(Unreachable, match="not followed"):
            await client.get(twice, bounds=Bounds(redirects=1))


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1:9/", "https://127.0.0.1:9/", "https://169.254.169.254/", "https://[::1]/", "file:///x", "//["],
)
async def test_a_redirect_that_is_followed_is_judged_anew(server: TestServer, target: str) -> None:
    async with trusting(server) as client:
        with pytest.raises(Unreachable) as refused:
            await client.get(url(server, f"/away?to={target}"), bounds=Bounds(redirects=3))

    assert refused.value.is_lasting


async def test_what_proves_who_asks_stays_with_the_first_origin(server: TestServer, other: TestServer) -> None:
    proof = {"Authorization": "Bearer x"}
    async with trusting(server, other) as client:
        await client.get(url(server, "/away?to=/file"), headers=proof, bounds=Bounds(redirects=1))
        await client.get(url(server, f"/away?to={url(other, '/file')}"), headers=proof, bounds=Bounds(redirects=1))

    assert [request.headers.get("Authorization") for request in server.app[SEEN]] == ["Bearer x"] * 3
    assert [request.headers.get("Authorization") for request in other.app[SEEN]] == [None]


async def test_an_answer_of_any_length_is_read_within_its_bounds(server: TestServer) -> None:
    async with trusting(server) as client:
        with pytest.raises(Unreachable, match="more than 5000 bytes") as refused:
            await client.get(url(server, "/large"), bounds=Bounds(size_bytes=5_000))

    assert SAID not in str(refused.value)


async def test_a_small_answer_does_not_unfold_to_a_large_one(server: TestServer) -> None:
    async with trusting(server) as client:
        answer = await client.get(url(server, "/packed"), bounds=Bounds(size_bytes=5_000))

    assert gzip.decompress(answer.body) == bytes(1_000_000)


async def test_an_answer_that_drips_is_read_within_its_time(server: TestServer) -> None:
    async with trusting(server) as client:
        with pytest.raises(Unreachable, match=r"not answered within 0\.2 s") as failed:
            await client.get(url(server, "/drip"), bounds=Bounds(total_s=0.2))

    assert not failed.value.is_lasting


@pytest.mark.parametrize(
    "said",
    [
        f"SSH-2.0-{SAID}\r\n\r\n",
        f"HTTP/1.1 {SAID} OK\r\n\r\n",
        f"HTTP/1.1 200 OK\r\n{SAID}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{SAID}\r\n",
        f"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{SAID}",
        f"HTTP/1.1 200 OK\r\nX: {SAID * 1_000}\r\n\r\n",
        "",
    ],
)
async def test_what_the_other_side_said_is_in_no_error(said: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said.encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with OutgoingClient([Origin("127.0.0.1", port)]) as client:
            with pytest.raises(Unreachable) as failed:
                await client.get(f"http://127.0.0.1:{port}/a?token=x")

    assert SAID not in str(failed.value)
    assert "token" not in str(failed.value)
    assert "\n" not in str(failed.value)


async def test_certificates_are_verified_by_the_operators_authority_too(authority: Authority, tmp_path: Path) -> None:
    async with serving_tls(authority, tmp_path, "localhost", "127.0.0.1") as port:
        origins = [Origin("localhost", port), Origin("127.0.0.1", port)]
        async with OutgoingClient(origins, authority.ca_pem) as client:
            assert (await client.get(f"https://localhost:{port}/file")).status == 200
        async with OutgoingClient(origins, Authority().ca_pem) as client:
            with pytest.raises(Unreachable, match="certificate"):
                await client.get(f"https://localhost:{port}/file")
        async with OutgoingClient(origins) as client:
            with pytest.raises(Unreachable, match="certificate"):
                await client.get(f"https://localhost:{port}/file")


async def test_a_certificate_for_another_name_is_refused(authority: Authority, tmp_path: Path) -> None:
    names = Names(["127.0.0.1"])
    async with (
        serving_tls(authority, tmp_path, "other.example") as port,
        OutgoingClient([Origin("share.example", port)], authority.ca_pem, names) as client,
    ):
        with pytest.raises(Unreachable, match="certificate"):
            await client.get(f"https://share.example:{port}/file")


async def test_neither_proxies_of_the_environment_nor_cookies_count(
    server: TestServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, nobody)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login alice password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with trusting(server) as client:
        for _ in range(2):
            assert (await client.get(url(server, "/file"))).status == 200

    for request in server.app[SEEN]:
        assert not {"Cookie", "Authorization"} & set(request.headers)


def _asking(authority: Authority, names: Resolve) -> OutgoingClient:
    return OutgoingClient(ca_pem=authority.ca_pem, resolve=names)


def _let_pass(monkeypatch: pytest.MonkeyPatch, public: str) -> None:
    """Take one address of loopback for a public one: no test leaves this machine."""
    monkeypatch.setattr(judging, "why_refused", lambda address: None if address == public else why_refused(address))

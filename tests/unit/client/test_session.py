import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from broker.client.lease import LeaseClient
from broker.client.session import ONCE, ApiError, Patience, Session, Unreachable
from broker.wire.leases import ClaimRequest, Settled
from broker.wire.problems import MEDIA_TYPE, ProblemCode

QUICK = Patience(attempts=4, total_s=20, first_delay_s=0.01)
SETTLED = {"item": "a/b/1", "state": "done"}
Handler = Callable[[web.Request], web.StreamResponse]
SlowHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler | SlowHandler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        answer = handler(request)
        return answer if isinstance(answer, web.StreamResponse) else await answer

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def answers(*replies: web.Response) -> tuple[list[web.Request], Handler]:
    """Give the replies one after the other, and a list of the requests that came."""
    seen: list[web.Request] = []

    def handler(request: web.Request) -> web.Response:
        seen.append(request)
        reply = replies[min(len(seen), len(replies)) - 1]
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    return seen, handler


def problem_answer(status: int, code: str, **headers: str) -> web.Response:
    body = f'{{"type":"x","title":"t","status":{status},"detail":"say why","code":"{code}"}}'
    return web.Response(status=status, text=body, content_type=MEDIA_TYPE, headers=headers)


async def settled(url: str) -> Settled:
    async with Session(url, patience=QUICK) as session:
        return await session.call("POST", "/v1/lease/complete", answer=Settled, token="t")


async def test_a_busy_or_restarting_server_is_asked_again() -> None:
    seen, handler = answers(
        web.Response(status=502), problem_answer(503, "store_unavailable"), web.json_response(SETTLED)
    )
    async with serving(handler) as url:
        assert await settled(url) == Settled(item="a/b/1", state="done")
    assert len(seen) == 3


async def test_a_refusal_is_not_repeated_and_carries_its_problem() -> None:
    seen, handler = answers(problem_answer(409, "lease_lost", **{"X-Request-Id": "r-1"}))
    async with serving(handler) as url:
        with pytest.raises(ApiError, match="say why") as caught:
            await settled(url)
    assert (caught.value.status, caught.value.code, len(seen)) == (409, ProblemCode.LEASE_LOST, 1)
    assert caught.value.problem.request_id == "r-1"


async def test_a_problem_code_of_a_newer_broker_is_still_an_error_of_its_status() -> None:
    _, handler = answers(problem_answer(409, "invented_later"))
    async with serving(handler) as url:
        with pytest.raises(ApiError, match="answered 409 Conflict") as caught:
            await settled(url)
    assert caught.value.status == 409


async def test_the_last_answer_is_told_when_the_attempts_are_used_up() -> None:
    seen, handler = answers(problem_answer(503, "store_unavailable"))
    async with serving(handler) as url:
        with pytest.raises(ApiError, match="say why"):
            await settled(url)
    assert len(seen) == QUICK.attempts


async def test_a_wait_that_the_server_asks_for_beyond_the_patience_is_not_begun() -> None:
    seen, handler = answers(problem_answer(503, "store_unavailable", **{"Retry-After": "30"}))
    async with serving(handler) as url:
        with pytest.raises(ApiError):
            await settled(url)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("attempt", "asked_s", "least_s", "most_s"), [(1, None, 0.05, 0.1), (9, None, 0.5, 1.0), (1, 7, 7, 7)]
)
def test_delays_grow_to_a_bound_and_heed_the_server(
    attempt: int, asked_s: float | None, least_s: float, most_s: float
) -> None:
    patience = Patience(first_delay_s=0.1, max_delay_s=1.0)
    assert all(least_s <= patience.delay_s(attempt, asked_s) <= most_s for _ in range(50))


async def test_a_broker_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    async with Session(f"http://127.0.0.1:{unused_tcp_port}") as session:
        with pytest.raises(
            Unreachable, match=rf"http://127.0.0.1:{unused_tcp_port}/v1/x cannot be reached: "
        ) as caught:
            await session.send("GET", "/v1/x", patience=ONCE)
    assert not caught.value.is_lasting


async def test_a_connection_that_broke_is_made_again() -> None:
    requests = 0

    def handler(request: web.Request) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        if requests == 1:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(SETTLED)

    async with serving(handler) as url:
        assert (await settled(url)).state == "done"
    assert requests == 2


async def test_each_attempt_has_its_own_timeout() -> None:
    hang = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        await hang.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestServer(app, host="127.0.0.1") as server, Session(str(server.make_url("/"))) as session:
        with pytest.raises(Unreachable, match="did not answer in time"):
            await session.send("GET", "/", timeout_s=0.05, patience=ONCE)
        hang.set()


async def test_the_token_goes_to_the_brokers_own_origin_only() -> None:
    ours, our_handler = answers(web.Response())
    theirs, their_handler = answers(web.Response())
    async with (
        serving(our_handler) as url,
        serving(their_handler) as elsewhere,
        Session(url, token="secret") as session,
    ):
        for address in ("/v1/x", f"{url}/y", f"{elsewhere}/z"):
            async with session.open("GET", address):
                pass
    assert [request.headers.get("Authorization") for request in (*ours, *theirs)] == ["Bearer secret"] * 2 + [None]


async def test_a_signed_address_is_sent_as_it_was_signed() -> None:
    seen, handler = answers(web.Response())
    async with serving(handler) as url, Session(url) as session:
        async with session.open("GET", f"{url}/a%2Fb%20c/d+e?X-Sig=a%2Fb%3D"):
            pass
        async with session.open("GET", f"{url}/two words/ä"):
            pass
    assert [request.raw_path for request in seen] == ["/a%2Fb%20c/d+e?X-Sig=a%2Fb%3D", "/two%20words/%C3%A4"]


async def test_what_is_no_web_address_is_refused_for_good() -> None:
    async with Session("http://127.0.0.1:1") as session:
        for address in ("file:alice/x", "ftp://host/x", "x", "http://[bad/"):
            with pytest.raises(Unreachable) as caught:
                async with session.open("GET", address):
                    pass
            assert caught.value.is_lasting


async def test_no_secret_of_an_address_is_in_an_error() -> None:
    _, handler = answers(web.Response(status=404))
    async with serving(handler) as url, Session(url) as session:
        with pytest.raises(ApiError) as caught:
            async with session.open("GET", f"{url}/x?signature=secret"):
                pass
    assert str(caught.value) == f"{url}/x answered 404 Not Found"


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "ftp://x", "https://", ""])
def test_a_broker_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="no broker's address"):
        Session(address)


async def test_a_claim_sends_the_ticket_and_no_token() -> None:
    seen, handler = answers(problem_answer(409, "ticket_spent"))
    async with serving(handler) as url, Session(url) as session:
        with pytest.raises(ApiError) as caught:
            await LeaseClient(session).claim(ClaimRequest(ticket="vt1", claim_key="k"))
    assert caught.value.code is ProblemCode.TICKET_SPENT
    assert (seen[0].path, seen[0].headers.get("Authorization")) == ("/v1/claim", None)


async def test_only_a_trusted_certificate_is_accepted(tmp_path: Path) -> None:
    _, handler = answers(web.json_response(SETTLED))
    pem, context = self_signed(tmp_path)
    async with serving(handler, context) as url:
        async with Session(url, ca_pem=pem) as session:
            assert (await session.call("GET", "/", answer=Settled)).state == "done"
        async with Session(url) as session:
            with pytest.raises(Unreachable, match="certificate") as caught:
                await session.call("GET", "/", answer=Settled)
    assert caught.value.is_lasting


def self_signed(folder: Path) -> tuple[str, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    (folder / "both.pem").write_text(secret + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return pem, context


async def test_an_answer_that_is_no_http_is_told_without_what_signs_the_address() -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"nonsense\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(nonsense, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Session(url) as session:
            with pytest.raises(Unreachable, match="cannot be read as HTTP") as raised:
                async with session.open("GET", f"{url}/file?signature=c4nary"):
                    pass

    assert "c4nary" not in str(raised.value)

"""Requests that no client of ours would make: each is refused in one way, and costs the others nothing."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from yarl import URL

from broker import process
from broker.domain.limits import LIMITS
from broker.http import bodies
from broker.http.route import Route
from broker.http.routes import ROUTES
from tests.integration.http.conftest import Grid
from tests.support.api import Api, add_stream, digest_of
from tests.support.grid import Broker, Home, free_port
from tests.support.launching import short_folder
from tests.support.sockets import Line, dialled, head
from tests.support.waiting import until

Start = Callable[[], AbstractAsyncContextManager[Grid]]
CANARY = b"<script>c4nary</script>"
H = b"Host: broker\r\n"
MIB = 1_048_576
MOST_GROWN_BYTES = 256 * MIB
"""Of what is sent at it below, and could be unpacked of it, there are gigabytes."""
UNREADABLE = {
    "TLS": b"\x16\x03\x01" + CANARY + b"\r\n\r\n",
    "a method that is none": b"G<ET " + CANARY + b" HTTP/1.1\r\n" + H + b"\r\n",
    "another version": b"GET /" + CANARY + b" HTTP/9.9\r\n" + H + b"\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\n" + H + CANARY + b"\r\n\r\n",
    "a line without end": b"GET /" + CANARY + b"a" * 20_000 + b" HTTP/1.1\r\n" + H + b"\r\n",
    "a header without end": b"GET / HTTP/1.1\r\n" + H + b"X: " + CANARY + b"a" * 20_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + H + b"X: " + CANARY + b"\r\n" + b"X: a\r\n" * 500 + b"\r\n",
    "no host": b"GET /" + CANARY + b" HTTP/1.1\r\n\r\n",
    "a NUL": b"GET / HTTP/1.1\r\n" + H + b"X: \0" + CANARY + b"\r\n\r\n",
    "bytes in the address": b"GET /\xff" + CANARY + b" HTTP/1.1\r\n" + H + b"\r\n",
    "two lengths": b"POST /v1/claim HTTP/1.1\r\n" + H + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n" + CANARY,
    "a length and chunks": b"POST /v1/claim HTTP/1.1\r\n"
    + H
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CANARY,
    "a negative length": b"POST /v1/claim HTTP/1.1\r\n" + H + b"Content-Length: -1\r\n\r\n" + CANARY,
    "a length beyond all numbers": b"POST /v1/claim HTTP/1.1\r\n" + H + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "another coding": b"POST /v1/claim HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip\r\n\r\n" + CANARY,
    "a chunk that is none": b"POST /v1/claim HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n" + CANARY,
}
HOSTILE_JSON = {
    "nested": b"[" * 30_000,
    "nested in a field": b'{"ticket": ' + b'{"a":' * 10_000,
    "a float beyond all": b'{"ticket": 1e400, "vcpus": 1e400, "weight": 1e400}',
    "an integer of 5,000 digits": b'{"ticket": ' + b"9" * 5_000 + b', "weight": ' + b"9" * 5_000 + b"}",
    "no number": b'{"ticket": NaN, "weight": -Infinity}',
    "invalid UTF-8": b'{"ticket": "\xff\xfe\xed\xa0\x80"}',
    "half a pair": b'{"ticket": "\\ud800"}',
    "a NUL": b'{"ticket": "\\u0000", "\\u0000": 1}\0',
    "keys twice": b'{"ticket": "a", "ticket": [], "launcher": 1, "launcher": "x"}',
    "a mark of order": b'\xef\xbb\xbf{"ticket": ""}',
    "nothing": b"",
    "half": b'{"tick',
    "a string without end": b'"' + b"\\" * 50_000,
    "true": b"true",
    "many keys": b"{" + b",".join(b'"k%d":0' % each for each in range(5_000)) + b"}",
}


@pytest.fixture(scope="module")
def broker() -> Iterator[tuple[Broker, int]]:
    """A broker in a process of its own, and that process."""
    with short_folder("vh-") as folder:
        broker = Broker(Home(folder), free_port())
        with broker.serving() as process:
            yield broker, process.pid


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a broker lose its patience at once."""
    monkeypatch.setattr(process, "_KEEPALIVE_S", 0.3)
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.3)


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_is_no_http_is_refused_without_its_own_bytes_and_the_connection_ends(
    broker: tuple[Broker, int], what: str
) -> None:
    async with dialled(broker[0].url) as line:
        await line.send(UNREADABLE[what])
        answer = await line.answer()
        rest = await line.rest()

    assert (answer.status, answer.code) == (400, "bad_request")
    assert b"c4nary" not in answer.body + rest
    logged = broker[0].log.read_text()
    assert "c4nary" not in logged
    assert "Traceback" not in logged


@pytest.mark.parametrize("expectation", ["200-dance", "<script>"])
async def test_an_unknown_expectation_is_refused(user: Api, expectation: str) -> None:
    async with dialled(user.url) as line:
        await line.send(
            head(
                "PUT", "/v1/files/alice/x", user.token, Expect=expectation, Content_Length="1", X_Request_Id="mine-0001"
            )
            + b"1"
        )
        answer = await line.answer()

    assert (answer.status, answer.code) == (400, "bad_request")
    assert answer.headers["x-request-id"] == "mine-0001"
    assert expectation.encode() not in answer.body


async def test_a_body_that_waits_to_be_asked_for_is_asked_for(user: Api) -> None:
    async with dialled(user.url) as line:
        await line.send(head("PUT", "/v1/files/alice/x", user.token, Expect="100-continue", Content_Length="1"))
        asked = await line.answer()
        await line.send(b"1")
        written = await line.answer()

    assert (asked.status, written.status) == (100, 201)


@pytest.mark.parametrize("what", HOSTILE_JSON)
async def test_a_body_that_is_no_message_is_refused_wherever_one_is_taken(grid: Grid, what: str) -> None:
    user, launcher = grid
    await add_stream(user)
    for route in ROUTES:
        if route.operation.body is None or (route.operation.body_is_optional and not HOSTILE_JSON[what]):
            continue
        caller = launcher if route.scope.startswith("queue.dispatch") else user
        answer = await caller.call(route.method, _address(route), data=HOSTILE_JSON[what])
        assert answer.code in {"bad_request", "unauthenticated"}, route


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/v1/files/alice/f", {"Range": "bytes=" + ",".join(["0-0"] * 1_000)}),
        ("GET", "/v1/files/alice/f", {"Range": "bytes=0-" + "9" * 5_000}),
        ("GET", "/v1/files/alice/f", {"Range": "bytes=-0"}),
        ("GET", "/v1/files/alice/f", {"Range": "bytes=5-2"}),
        ("GET", "/v1/files/alice/f", {"If-Modified-Since": "Sat, 99 Foo 99999 99:99:99 GMT"}),
        ("GET", "/v1/files/alice/f", {"If-None-Match": '"' * 4_000, "If-Range": "W/" * 10}),
        ("GET", "/v1/streams/alice/render/events", {"Last-Event-ID": "9" * 5_000 + "-1"}),
        ("GET", "/v1/events", {"Last-Event-ID": "1-1;<script>"}),
        ("GET", "/v1/events?" + "&".join(["after=0-0"] * 500), {"Accept": "application/x-ndjson"}),
        ("GET", "/v1/streams?" + "&".join(f"a{each}=1" for each in range(900)), {}),
        ("GET", "/v1/streams?user=" + "%F0%9F%92%A9" * 300, {}),
        ("GET", "/v1/whoami", {"Authorization": "Bearer " + "a." * 4_000}),
        ("GET", "/v1/whoami", {"Authorization": "Bearer \u0663.\u0663.\u0663"}),
        ("GET", "/v1/whoami", {"X-Request-Id": "<b>" * 100}),
        ("GET", "/v1/files/alice/f?signature=%FF&key=%00&expires=%D9%A3&method=GET", {}),
        ("GET", "/v1/files/alice/?cursor=%00%F0%9F%92%A9&limit=1000", {"Accept": "text/html"}),
        ("GET", "/v1/files/alice/?limit=0", {}),
        ("GET", "/v1/files/alice/f/?recursive=2", {}),
        ("GET", "/v1/files/alice/?signature=x&expires=x&method=GET", {"Accept": "text/html"}),
        ("PROPFIND", "/v1/files/alice/", {"Depth": "infinity"}),
        ("PROPFIND", "/v1/files/alice/", {"Depth": "9" * 4_000}),
        ("MKCOL", "/v1/files/alice/..%2fbob/", {}),
        ("POST", "/v1/uploads", {"Tus-Resumable": "1.0.0", "Upload-Concat": "final;" + "/v1/uploads/x " * 300}),
        ("POST", "/v1/uploads", {"Tus-Resumable": "1.0.0", "Upload-Length": "1", "Upload-Concat": "\u0663"}),
        ("PUT", "/v1/files/alice/g", {"Repr-Digest": "sha-256=:" + "=" * 4_000 + ":"}),
        ("PUT", "/v1/files/alice/g", {"If-None-Match": '"x"'}),
        ("POST", "/v1/uploads", {"Tus-Resumable": "1.0.0", "Upload-Length": "9" * 4_000, "Upload-Metadata": "digest"}),
        ("POST", "/v1/uploads", {"Tus-Resumable": "1.0.0", "Upload-Length": "1", "Upload-Metadata": "," * 8_000}),
        ("PATCH", "/v1/uploads/..%2f..%2fkeys", {"Tus-Resumable": "1.0.0", "Upload-Offset": "\u0663"}),
        ("HEAD", "/v1/uploads/" + "%2e%2e%2f" * 500, {"Tus-Resumable": "1.0.0"}),
    ],
)
async def test_a_hostile_header_or_query_is_refused_or_passed_over(
    user: Api, method: str, path: str, headers: dict[str, str]
) -> None:
    await add_stream(user)
    await user.call("PUT", "/v1/files/alice/f", data=b"content")

    answer = await user.call(method, path, headers=headers, data=b"x" if method in {"PUT", "PATCH"} else None)

    assert answer.status < 500
    if answer.status >= 400 and method != "HEAD":
        assert answer.code != "internal"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/claim"), ("PUT", "/v1/files/alice/bomb")])
async def test_a_compressed_body_is_refused_unread(user: Api, coding: str, method: str, path: str) -> None:
    bomb = gzip.compress(b" " * 8 * MIB)

    answer = await user.call(method, path, data=bomb, headers={"Content-Encoding": coding})

    assert (answer.status, answer.code) == (415, "media_type_refused")


@pytest.mark.usefixtures("impatient")
async def test_a_first_head_that_never_ends_is_cut_off(start: Start) -> None:
    async with start() as (user, _), dialled(user.url) as silent, dialled(user.url) as half:
        await half.send(b"GET /healthz HTTP/1.1\r\nHost: ")
        assert (await user.call("GET", "/healthz")).status == 200
        assert await silent.rest() == b""
        assert await half.rest() == b""


@pytest.mark.usefixtures("impatient")
async def test_a_second_head_that_never_ends_is_cut_off(start: Start) -> None:
    async with start() as (user, _), dialled(user.url) as line:
        await line.send(head("GET", "/healthz"))
        assert (await line.answer()).status == 200
        await line.send(b"GET /healthz HTTP/1.1\r\nX: ")
        assert await line.rest() == b""


@pytest.mark.parametrize(
    ("method", "path", "framing", "begun"),
    [
        ("POST", "/v1/claim", {"Content_Length": "100"}, b'{"'),
        ("POST", "/v1/claim", {"Transfer_Encoding": "chunked"}, b"1\r\n{\r\n"),
        ("POST", "/v1/claim", {"Transfer_Encoding": "chunked"}, b"1;" + b"x" * 100_000),
        ("POST", "/v1/lease/extend", {"Content_Length": "100"}, b""),
        ("PUT", "/v1/streams/alice/render", {"Content_Length": "100"}, b"{"),
        ("PUT", "/v1/files/alice/slow", {"Content_Length": "100"}, b"x"),
        (
            "POST",
            "/v1/streams/alice/render/items",
            {"Transfer_Encoding": "chunked", "Content_Type": "application/x-ndjson"},
            b"3\r\n{}\n\r\n",
        ),
    ],
)
@pytest.mark.usefixtures("impatient")
async def test_a_body_that_does_not_come_is_cut_off(
    user: Api, method: str, path: str, framing: dict[str, str], begun: bytes
) -> None:
    await add_stream(user)
    token = "vl1.0.alice/render/1.1.k.m" if path.startswith("/v1/lease") else user.token
    async with dialled(user.url) as line:
        await line.send(head(method, path, token, **framing) + begun)
        assert (await user.call("GET", "/v1/whoami")).status == 200, "others are served meanwhile"
        answer = await line.answer()

    assert (answer.status, answer.code) == (408, "too_slow")


@pytest.mark.usefixtures("impatient")
async def test_a_dribbled_body_is_cut_off_though_it_never_pauses(user: Api) -> None:
    async with dialled(user.url) as line:
        await line.send(head("PUT", "/v1/files/alice/slow", user.token, Content_Length=str(MIB)))

        async def dribble() -> None:
            for _ in range(10_000):
                await line.send(b"x")
                await asyncio.sleep(0.01)

        dribbling = asyncio.create_task(dribble())
        answer = await line.answer()
        dribbling.cancel()

    assert (answer.status, answer.code) == (408, "too_slow")
    assert (await user.call("GET", "/v1/files/alice/slow")).status == 404


async def test_large_bodies_of_one_user_take_no_place_of_another(
    user: Api, issue: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "user_bodies", LIMITS["user_bodies"]._replace(default=2))
    bob = user.bearing(issue("bob", "file.write:/bob file.read:/bob"))
    async with dialled(user.url) as first, dialled(user.url) as second:
        for line in (first, second):
            await line.send(head("PUT", "/v1/files/alice/slow", user.token, Content_Length="100") + b"x")

        async def are_all_taken() -> bool:
            return (await user.call("PUT", "/v1/files/alice/more", data=b"x")).status == 429

        await until(are_all_taken, "all places are taken")
        refused = await user.call("PUT", "/v1/files/alice/more", data=b"x")
        assert refused.code == "too_many_bodies"
        assert refused.headers["Retry-After"] == "1"
        assert (await user.call("GET", "/v1/whoami")).status == 200
        assert (await bob.call("PUT", "/v1/files/bob/x", data=b"x")).status == 201
        assert (await bob.call("PUT", "/v1/files/bob/x", data=b"x" * MIB)).status == 200

    async def is_free_again() -> bool:
        return (await user.call("PUT", "/v1/files/alice/again", data=b"x")).status == 201

    await until(is_free_again, "a place is free again")


async def test_a_stranger_with_a_shared_address_holds_little_of_its_users_room(user: Api) -> None:
    shared = (await user.ok("POST", "/v1/shares/alice/drop", json={"life_s": 60, "is_write": True}))["url"]
    target = str(URL(shared).relative())
    async with AsyncExitStack() as lines:
        for _ in range(4):
            line = await lines.enter_async_context(dialled(user.url))
            await line.send(head("PUT", target, Content_Length="100") + b"x")

        async def are_all_taken() -> bool:
            return (await user.bearing(None).call("PUT", shared, data=b"x")).status == 429

        await until(are_all_taken, "all places are taken")
        assert (await user.call("PUT", "/v1/files/alice/more", data=b"x")).status == 201


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(user: Api) -> None:
    async with dialled(user.url) as line:
        await line.send(head("POST", "/v1/claim", Content_Length=str(1 << 40)))
        answer = await line.answer()

    assert (answer.status, answer.code) == (413, "too_large")


async def test_much_of_everything_at_once_takes_little_memory_and_others_are_served(broker: tuple[Broker, int]) -> None:
    served, pid = broker
    before_bytes = _most_memory_bytes(pid)
    bodies_sent = [
        head("POST", "/v1/claim", Content_Length="65000") + b" " * 64_999,
        head("POST", "/v1/claim", Transfer_Encoding="chunked") + b"ffffff\r\n" + b" " * 8 * MIB,
        head("POST", "/v1/lease/fail", "vl1.0.alice/r/1.1.k.m", Content_Length=str(4 * MIB)) + b" " * 2 * MIB,
        head("POST", "/v1/streams/alice/r/items", served.token(), Content_Length=str(4 * MIB)) + b" " * 2 * MIB,
        head("PUT", "/v1/files/alice/b", served.token(), Content_Length=str(MIB), Content_Encoding="gzip")
        + gzip.compress(b" " * 64 * MIB),
        b"GET / HTTP/1.1\r\n" + (b"X: " + b"a" * 8_000 + b"\r\n") * 200,
        b"",
    ]
    async with asyncio.TaskGroup() as senders, _dialled_often(served.url, 30 * len(bodies_sent)) as lines:
        sending = [senders.create_task(line.send(bodies_sent[at % len(bodies_sent)])) for at, line in enumerate(lines)]
        for _ in range(20):
            said = await asyncio.to_thread(served.call, "GET", "/v1/whoami", None, served.token())
            assert said["user"] == "alice"
        await asyncio.gather(*sending)
        grown_bytes = _most_memory_bytes(pid) - before_bytes

    assert grown_bytes < MOST_GROWN_BYTES


@asynccontextmanager
async def _dialled_often(url: str, count: int) -> AsyncIterator[list[Line]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(dialled(url)) for _ in range(count)]


def _most_memory_bytes(pid: int) -> int:
    """Return the most that a process ever had in memory. Source: proc_pid_status(5)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1_024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])


def _address(route: Route) -> str:
    """Return an address of the route that names something, or could."""
    parts = {"user": "alice", "job": "render", "name": "m", "number": "1", "reader": "bob", "path": "x"}
    parts["folder"] = "in"
    parts |= {
        "site": "renci",
        "token": "x",
        "digest": digest_of(b""),
        "upload": "0" * 32,
        "callback": f"evt_{'0' * 32}",
        "dispatch": "0b0f8f4e-6d5a-4c8e-9b1e-2f6a7d3c9e10",
    }
    return route.address.format_map(parts)

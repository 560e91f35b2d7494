import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from typing import cast

import msgspec
import pytest
from aiohttp import web

from broker.cli.acting import Acting
from broker.cli.chunks import Chunk, Common, chunks_of
from broker.cli.progress import progress
from broker.cli.pushing import Pushing, told
from broker.cli.sources import BadSource, Given, Source, Urls, one_by_one
from broker.client.errors import ApiError, Unreachable
from broker.client.files import Files
from broker.client.researcher import Researcher
from broker.client.session import Patience, Session
from broker.wire.names import OwnedName, UserName
from broker.wire.problems import ProblemCode, problem
from tests.unit.client.test_session import serving

STREAM = OwnedName(UserName("alice"), "render")
ACCEPTED = {"stream": str(STREAM), "accepted": 500, "first": 1, "last": 500, "durability": "fsync"}


@pytest.mark.parametrize(
    ("answered", "note"),
    [
        (1, "500 of 501 items were pushed (alice/render/1 to alice/render/500); push again with --key K to go on"),
        (0, "it is not known whether items were pushed; push again with --key K, which adds none twice"),
    ],
)
async def test_a_push_that_loses_its_broker_tells_how_to_go_on(answered: int, note: str) -> None:
    keys: list[str] = []

    def handler(request: web.Request) -> web.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) > answered:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(ACCEPTED, status=201)

    sources = [Source(url=f"https://h.example/{number}") for number in range(501)]
    async with serving(handler) as url, Session(url, patience=Patience(attempts=2, first_delay_s=0.01)) as session:
        acting = Acting(session, Researcher(session), Files(session), "alice")
        pushing = Pushing(acting, STREAM, "K")
        with progress() as bars, pytest.raises(Unreachable) as lost:
            await pushing.run(chunks_of(acting, STREAM, sources, Common(), bars), lambda _: None)
        told(lost.value, pushing, 501)

    assert lost.value.__notes__ == [note]
    assert keys == ["K/0"] * answered + [f"K/{answered}"] * 2


class Broker:
    """Answers pushes; the first one when it is let go on. A request in which `too_much` stands is refused."""

    def __init__(self, too_much: str = "") -> None:
        self.too_much = too_much
        self.asked: list[tuple[str, str | None, int]] = []
        self.goes_on = asyncio.Event()
        self.accepted = 0

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        count = body.count(b"\n")
        self.asked.append((request.headers["Idempotency-Key"], request.query.get("part"), count))
        await self.goes_on.wait()
        if self.too_much and self.too_much.encode() in body:
            return web.json_response(
                msgspec.to_builtins(problem(ProblemCode.QUOTA_EXCEEDED, "too many")),
                status=429,
                content_type="application/problem+json",
            )
        first, self.accepted = self.accepted + 1, self.accepted + count
        answer = {**ACCEPTED, "accepted": count, "first": first, "last": self.accepted}
        return web.json_response(answer, status=201)


async def pushed(broker: Broker, count: int) -> Pushing:
    """Push so many URLs; the first request is answered when all chunks are made."""
    file_of_urls = [Urls("list", 1, [b"https://h.example/%d" % number for number in range(count)])]
    async with serving(broker.handle) as url, Session(url, patience=Patience(attempts=1)) as session:
        acting = Acting(session, Researcher(session), Files(session), "alice")
        pushing = Pushing(acting, STREAM, "K")
        with progress() as bars:

            async def chunks() -> AsyncIterator[Chunk]:
                async for chunk in chunks_of(acting, STREAM, file_of_urls, Common(), bars):
                    yield chunk
                broker.goes_on.set()

            refused = pytest.raises(ApiError, match="too many") if broker.too_much else nullcontext()
            with refused:
                await pushing.run(chunks(), lambda _: None)
    return pushing


async def test_chunks_made_while_a_request_is_on_its_way_go_together() -> None:
    broker = Broker()

    pushing = await pushed(broker, 2_100)

    assert broker.asked == [("K/0", None, 500), ("K", "1", 1_600)]
    assert (pushing.tally.accepted, pushing.tally.first, pushing.tally.last) == (2_100, 1, 2_100)


async def test_chunks_that_are_refused_together_go_one_by_one_to_the_bad_one() -> None:
    broker = Broker(too_much='/1999"')

    pushing = await pushed(broker, 2_100)

    assert broker.asked[1:] == [("K", "1", 1_600), ("K/1", None, 500), ("K/2", None, 500), ("K/3", None, 500)]
    assert pushing.tally.accepted == 1_500


async def test_what_was_made_before_a_source_that_cannot_be_read_is_pushed_and_counted() -> None:
    broker = Broker()
    broker.goes_on.set()

    def sources() -> Iterator[Given]:
        yield Urls("list", 1, [b"https://h.example/%d" % number for number in range(1_200)])
        raise BadSource("line 1201 of list has more than 131072 bytes")

    async with serving(broker.handle) as url, Session(url, patience=Patience(attempts=1)) as session:
        acting = Acting(session, Researcher(session), Files(session), "alice")
        pushing = Pushing(acting, STREAM, "K")
        with progress() as bars, pytest.raises(BadSource) as bad:
            await pushing.run(chunks_of(acting, STREAM, sources(), Common(), bars), lambda _: None)

    assert pushing.tally.accepted == broker.accepted == 1_000
    assert "1000 items were pushed" in str(told(bad.value, pushing, None))
    assert "--key K" in str(told(bad.value, pushing, None))


def lists() -> list[list[Given]]:
    urls = [b"https://h.example/%d" % number for number in range(1_203)]
    long = [b"https://h.example/" + b"x" * 120_000] * 30
    one = Source(url="https://h.example/first")
    return [[Urls("list", 1, urls)], [one, Urls("list", 1, urls)], [Urls("list", 1, urls + long), one]]


@pytest.mark.parametrize("given", lists())
@pytest.mark.parametrize("common", [Common(), Common({"n": [str(number) for number in range(2_000)]})])
async def test_urls_given_together_make_the_same_chunks_as_one_by_one(given: list[Given], common: Common) -> None:
    acting = cast("Acting", None)  # nothing is uploaded
    with progress() as bars:
        together = [chunk async for chunk in chunks_of(acting, STREAM, given, common, bars)]
        singly = [chunk async for chunk in chunks_of(acting, STREAM, one_by_one(given), common, bars)]

    assert [chunk.body for chunk in together] == [chunk.body for chunk in singly]
    assert [(chunk.first, chunk.count) for chunk in together] == [(chunk.first, chunk.count) for chunk in singly]
    assert [each.place(each.count) for each in together] == [each.place(each.count) for each in singly]
    assert [each.source(1).line for each in together] == [each.source(1).line for each in singly]

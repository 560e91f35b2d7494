import asyncio

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bench.broker.calls import STREAM
from bench.broker.floor import RECORDED, routes_of
from tests.support.api import offer

ANSWERS = {name: name.encode() for name in RECORDED}


async def test_an_empty_server_answers_what_was_recorded() -> None:
    async with _client("empty") as client:
        paths = {"dispatch": "/v1/dispatch", "claim": "/v1/claim", "complete": "/v1/lease/complete"}
        answers = {name: await (await client.post(path, json={})).read() for name, path in paths.items()}

    assert answers == {name: ANSWERS[name] for name in paths}


async def test_a_server_that_parks_hands_a_push_to_who_waits_longest() -> None:
    async with _client("parked") as client:
        first = asyncio.create_task(client.post("/v1/dispatch", json=offer(wait_ms=30_000)))
        second = asyncio.create_task(client.post("/v1/dispatch", json=offer(wait_ms=30_000)))
        done: set[asyncio.Task[object]] = set()
        while not done:
            # The waits may come after the first pushes, which then wake nobody.
            await client.post(f"{STREAM}/items", data=b"{}")
            done, _ = await asyncio.wait({first, second}, timeout=0.01, return_when=asyncio.FIRST_COMPLETED)
        assert await (await first).read() == b"dispatch_one"
        second.cancel()
        await asyncio.wait({second})


async def test_a_server_that_parks_answers_nothing_after_the_wait() -> None:
    async with _client("parked") as client:
        answer = await client.post("/v1/dispatch", json=offer(wait_ms=1))

    assert answer.status == 204


def _client(kind: str) -> "TestClient[web.Request, web.Application]":
    app = web.Application()
    app.add_routes(routes_of(kind, ANSWERS))
    return TestClient(TestServer(app))

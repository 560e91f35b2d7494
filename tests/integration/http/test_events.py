import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from broker.http import events
from tests.support.api import Api, add_stream, run_item


class Feed:
    """One connection to a stream's events, read message by message."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def blocks(self) -> AsyncIterator[dict[str, str]]:
        block: dict[str, str] = {}
        async for raw in self._response.content:
            line = raw.decode().rstrip("\n")
            if line:
                name, _, value = line.partition(":")
                block[name] = value.removeprefix(" ")
                continue
            yield block
            block = {}

    async def events(self, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(10):
            async for block in self.blocks():
                if "data" in block:
                    found.append({**json.loads(block["data"]), "sse_id": block.get("id"), "sse": block.get("event")})
                if len(found) == count:
                    break
        return found


async def test_a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    path = f"{stream}/events"
    async with user.stream(path) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        seen = await Feed(response).events(1)
    await user.ok("POST", f"{stream}/items", json=[{}])
    await run_item(launcher)

    while not seen[-1]["type"].endswith("vm.ended"):
        async with user.stream(path, {"Last-Event-ID": seen[-1]["sse_id"]}) as response:
            seen += await Feed(response).events(2)

    sequences = [int(event["sequence"]) for event in seen]
    assert sequences == list(range(1, len(seen) + 1))
    kinds = [event["type"].removeprefix("org.vmbroker.") for event in seen]
    assert kinds[:3] == ["stream.created", "items.pushed", "item.dispatched"]
    assert {"item.claimed", "item.completed"} < set(kinds)
    assert all(event["id"] == event["sse_id"] and event["specversion"] == "1.0" for event in seen)


async def test_an_event_reaches_who_is_waiting_for_it(user: Api) -> None:
    stream = await add_stream(user)
    async with user.stream(f"{stream}/events") as response:
        feed = Feed(response)
        await feed.events(1)

        await user.ok("POST", f"{stream}/items", json=[{}, {}])

        [event] = await feed.events(1)
        assert (event["data"]["first"], event["data"]["last"]) == (1, 2)


async def test_an_id_of_another_life_of_the_stream_is_answered_with_the_counts(user: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}, {}])

    async with user.stream(f"{stream}/events", {"Last-Event-ID": "99999-5"}) as response:
        truncated, first, _ = await Feed(response).events(3)

    assert truncated["sse"] == "truncated"
    assert truncated["counts"]["ready"] == 2
    assert first["type"] == "org.vmbroker.stream.created"


async def test_silence_is_filled_with_heartbeats(user: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    stream = await add_stream(user)

    async with user.stream(f"{stream}/events") as response, asyncio.timeout(10):
        blocks = Feed(response).blocks()
        retry = await anext(blocks)
        await anext(blocks)
        beat = await anext(blocks)

    assert retry["retry"] == "2000"
    assert "data" not in beat


async def test_events_come_as_lines_where_lines_are_asked_for(user: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])

    answer = await user.call("GET", f"{stream}/events", headers={"Accept": "application/x-ndjson"})

    kinds = [json.loads(line)["type"] for line in answer.body.splitlines()]
    assert kinds == ["org.vmbroker.stream.created", "org.vmbroker.items.pushed"]

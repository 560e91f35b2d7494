import json
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from broker.domain.limits import LIMITS
from broker.http import events
from broker.store import Store
from broker.store.embedded import EmbeddedStore
from broker.wire.names import StreamRef, UserName
from tests.integration.http.test_events import Feed
from tests.support.api import Api, add_stream, run_item
from tests.support.waiting import until

LINES = {"Accept": "application/x-ndjson"}


async def test_feed_has_every_event_of_all_streams_with_ids_of_its_own(user: Api, launcher: Api) -> None:
    streams = [await add_stream(user, job) for job in ("render", "draw")]
    for stream in streams:
        await user.ok("POST", f"{stream}/items", json=[{}])
        await run_item(launcher)

    logs = [json.loads(line) for stream in streams for line in await _lines(user, f"{stream}/events")]
    async with user.stream("/v1/events") as response:
        seen = await Feed(response).events(len(logs))

    assert [_sequence(event["sse_id"]) for event in seen] == list(range(1, len(logs) + 1))
    assert all(event["position"] == event["sse_id"] for event in seen)
    assert {(event["source"], event["id"]) for event in seen} == {(event["source"], event["id"]) for event in logs}


async def test_reader_of_the_feed_misses_nothing_and_sees_nothing_twice(user: Api) -> None:
    streams = [await add_stream(user, job) for job in ("render", "draw")]
    for stream in streams * 3:
        await user.ok("POST", f"{stream}/items", json=[{}])

    seen: list[str] = []
    while len(seen) < 8:
        async with user.stream("/v1/events", {"Last-Event-ID": seen[-1]} if seen else None) as response:
            seen += [event["sse_id"] for event in await Feed(response).events(2)]

    assert [_sequence(place) for place in seen] == list(range(1, 9))
    assert [json.loads(line)["position"] for line in await _lines(user, f"/v1/events?after={seen[5]}")] == seen[6:]


async def test_event_of_any_stream_wakes_who_follows_the_feed(user: Api) -> None:
    stream = await add_stream(user)
    async with user.stream("/v1/events") as response:
        feed = Feed(response)
        await feed.events(1)

        await user.ok("POST", f"{stream}/items", json=[{}])

        [event] = await feed.events(1)
        assert event["type"] == "org.vmbroker.items.pushed"


async def test_place_that_the_feed_does_not_know_is_answered_with_the_counts_of_all_streams(user: Api) -> None:
    for job in ("render", "draw"):
        await user.ok("POST", f"{await add_stream(user, job)}/items", json=[{}, {}])

    async with user.stream("/v1/events", {"Last-Event-ID": "99999-5"}) as response:
        truncated, first = await Feed(response).events(2)
    [line, *_] = await _lines(user, "/v1/events?after=99999-5")

    assert (truncated["sse"], truncated["user"], truncated["counts"]["ready"]) == ("truncated", "alice", 4)
    assert first["type"] == "org.vmbroker.stream.created"
    assert json.loads(line)["truncated"]["counts"]["ready"] == 4


async def test_stream_that_is_removed_ends_its_followers_and_not_those_of_the_feed(
    user: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(events, "SLOW_POLL_S", 0.05)
    stream = await add_stream(user)
    async with user.stream(f"{stream}/events") as of_stream, user.stream("/v1/events") as of_user:
        feed = Feed(of_user)
        await feed.events(1)
        await _remove(tmp_path / "data", "render")

        with pytest.raises(aiohttp.ClientError):
            await Feed(of_stream).events(2)
        assert (await user.call("GET", f"{stream}/events")).status == 404
        await add_stream(user)
        [created] = await feed.events(1)
        assert (created["type"], _sequence(created["position"])) == ("org.vmbroker.stream.created", 2)


@pytest.mark.parametrize(
    ("scope", "path", "status"),
    [
        ("queue.read:/alice", "/v1/events?user=alice", 200),
        ("queue.read", "/v1/events?user=alice", 200),
        ("queue.read:/alice/render", "/v1/events?user=alice", 404),
        ("queue.read:/bob", "/v1/events?user=alice", 404),
        ("queue.submit:/alice", "/v1/events?user=alice", 403),
        ("queue.read:/alice", "/v1/events?user=a/b", 400),
        ("queue.read:/alice", "/v1/events?user=alice&after=x", 400),
        ("queue.read:/alice", "/v1/events?usr=alice", 400),
    ],
)
async def test_feed_is_for_who_may_read_all_of_the_users_streams(
    user: Api, issue: Callable[..., str], scope: str, path: str, status: int
) -> None:
    await add_stream(user)
    assert (await user.bearing(issue("carol", scope)).call("GET", path, headers=LINES)).status == status


@pytest.mark.parametrize("limit", ["followers", "token_followers"])
async def test_one_follower_too_many_is_told_so_before_its_answer_begins(
    user: Api, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setitem(LIMITS, limit, LIMITS[limit]._replace(default=1))
    monkeypatch.setattr(events, "SLOW_POLL_S", 0.05)
    stream = await add_stream(user)
    async with user.stream(f"{stream}/events") as response:
        await Feed(response).events(1)
        refused = await user.call("GET", "/v1/events")
        assert (refused.status, refused.code) == (429, "too_many_followers")
        assert int(refused.headers["Retry-After"]) > 0
        response.close()

        async def is_free_again() -> bool:
            return (await user.call("GET", "/v1/events", headers=LINES)).status == 200

        await until(is_free_again, "the place of the one that went")


async def _remove(data: Path, job: str) -> None:
    """Take from the store what tells of a stream."""
    store = await Store.connect(EmbeddedStore(data / "store").url)
    try:
        keys = store._keys.of_stream(StreamRef(UserName("alice"), job))
        await store._server.command("DEL", keys.stream, keys.specs, keys.events)
    finally:
        await store.close()


async def _lines(user: Api, path: str) -> list[str]:
    return (await user.call("GET", path, headers=LINES)).body.decode().splitlines()


def _sequence(place: str) -> int:
    return int(place.partition("-")[2])

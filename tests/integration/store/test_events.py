import asyncio

import msgspec
import pytest

from broker.domain.errors import Rejected
from broker.domain.limits import default
from broker.store import Bell, EventBatch, Grown, Ready, Store
from broker.wire.events import EventType
from broker.wire.names import StreamRef, UserName
from broker.wire.states import Verdict
from broker.wire.streams import Limits, Needs, Retry
from tests.integration.store.listening import listening
from tests.integration.store.scene import ALICE, RENDER, ROOM, SPEC, Scene, failure, lease_of, result
from tests.support.waiting import until

_FILL_LOG = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
for _ = 1, ARGV[1] do
  redis.call('XADD', KEYS[2], epoch .. '-' .. redis.call('HINCRBY', KEYS[1], 'seq', 1), 'kind', 'item.ready')
end
"""
_FILL_FEED = """
local epoch = string.match(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1], '^%d+')
for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], epoch .. '-*', 'kind', 'item.ready') end
"""
_UNREADABLE = """
local id = redis.call('HGET', KEYS[1], 'epoch') .. '-' .. redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('XADD', KEYS[2], id, 'kind', 'item.ready', 'at_ms', 1, 'number', '1', 'data', '{"exit_code":1e+15}')
"""


async def test_life_of_an_item_is_told_in_order_and_without_a_gap(scene: Scene) -> None:
    await scene.push(1)
    await scene.store.complete(await scene.running(), result())
    batch = await scene.store.read_events(RENDER, None, 100)
    assert [event.kind for event in batch.events] == [
        EventType.STREAM_CREATED,
        EventType.ITEMS_PUSHED,
        EventType.ITEM_DISPATCHED,
        EventType.VM_PREPARING,
        EventType.ITEM_CLAIMED,
        EventType.VM_CLAIMED,
        EventType.ITEM_COMPLETED,
    ]
    assert [int(event.sequence) for event in batch.events] == list(range(1, 8))
    assert {event.source for event in batch.events} == {"/streams/alice/render"}
    assert batch.events[1].data == {"first": 1, "last": 1}
    assert (batch.events[2].subject, batch.events[2].data["launcher"]) == ("alice/render/1", scene.launcher)


async def test_reader_resumes_after_the_last_event_it_saw(scene: Scene) -> None:
    await scene.push(1)
    first = await scene.store.read_events(RENDER, None, 1)
    rest = await scene.store.read_events(RENDER, first.events[-1].id, 100)
    end = await scene.store.read_events(RENDER, rest.events[-1].id, 100)
    assert [event.kind for event in rest.events] == [EventType.ITEMS_PUSHED]
    assert (end.events, end.truncated, rest.truncated) == ([], False, False)


async def test_reader_whose_place_was_trimmed_is_told(scene: Scene) -> None:
    first = (await scene.store.read_events(RENDER, None, 1)).events[0]
    await scene.push(1)
    await scene.push(1)
    await scene.store._server.command("XTRIM", scene.store._keys.of_stream(RENDER).events, "MAXLEN", 1)
    batch = await scene.store.read_events(RENDER, first.id, 100)
    assert batch.truncated
    assert [int(event.sequence) for event in batch.events] == [3]


async def test_event_that_cannot_be_read_loses_its_data_and_not_the_log(scene: Scene) -> None:
    keys = scene.store._keys.of_stream(RENDER)
    await scene.store._server.command("EVAL", _UNREADABLE, 2, keys.stream, keys.events)
    await scene.push(1)
    batch = await scene.store.read_events(RENDER, None, 100)
    assert [(int(event.sequence), event.data) for event in batch.events[1:]] == [(2, {}), (3, {"first": 1, "last": 1})]


@pytest.mark.parametrize("exit_code", [-255, 255])
async def test_largest_numbers_that_are_let_in_stay_whole_in_every_event(scene: Scene, exit_code: int) -> None:
    room = msgspec.structs.replace(ROOM, vcpus=1_024, memory_mib=(1 << 40) - 1, disk_mib=(1 << 40) - 1)
    needs = Needs(vcpus=1_024, memory_mib=16_777_216)
    retry = Retry(attempts=2, backoff_first_ms=86_400_000, backoff_max_ms=86_400_000)
    limits = Limits(boot_ms=86_400_000, run_ms=2_592_000_000)
    spec = msgspec.structs.replace(SPEC, needs=needs, retry=retry, limits=limits)
    await scene.set_up(spec, items=2)
    for number in range(2):
        given = await scene.offer(room)
        assert given is not None
        lease = lease_of(await scene.claim(given))
        if number == 0:
            await scene.store.fail(lease, failure(exit_code))
        else:
            await scene.store.complete(lease, msgspec.structs.replace(result(), exit_code=exit_code))
        await scene.end(given, Verdict.COMPLETED)
    events = (await scene.store.read_events(RENDER, None, 1_000)).events
    assert all(event.data for event in events)
    dispatched = [event.data for event in events if event.kind is EventType.ITEM_DISPATCHED]
    assert [(data["vcpus"], data["memory_mib"]) for data in dispatched] == [(1_024, 16_777_216)] * 2
    assert [(await scene.item(number)).exit_code for number in (1, 2)] == [exit_code] * 2


@pytest.mark.parametrize("after", ["1-1", "99999999999999-1"])
async def test_id_of_another_life_of_the_stream_starts_from_the_oldest(scene: Scene, after: str) -> None:
    batch = await scene.store.read_events(RENDER, after, 100)
    assert batch.truncated
    assert [event.kind for event in batch.events] == [EventType.STREAM_CREATED]


async def test_feed_tells_of_every_stream_in_one_order_and_without_a_gap(scene: Scene) -> None:
    draw = StreamRef(ALICE, "draw")
    await scene.set_up(ref=draw)
    await scene.push(1, draw)
    await scene.push(2)
    batch = await scene.store.read_feed(ALICE, None, 100)
    assert [(event.source, event.kind) for event in batch.events] == [
        ("/streams/alice/render", EventType.STREAM_CREATED),
        ("/streams/alice/draw", EventType.STREAM_CREATED),
        ("/streams/alice/draw", EventType.ITEMS_PUSHED),
        ("/streams/alice/render", EventType.ITEMS_PUSHED),
    ]
    assert [_sequence(event.place) for event in batch.events] == [1, 2, 3, 4]
    assert not batch.truncated


async def test_event_is_the_same_in_the_feed_and_in_its_streams_log(scene: Scene) -> None:
    await scene.push(1)
    await scene.store.complete(await scene.running(), result())
    log, feed = await scene.store.read_events(RENDER, None, 100), await scene.store.read_feed(ALICE, None, 100)
    assert [msgspec.structs.replace(event, position=msgspec.UNSET) for event in feed.events] == log.events


async def test_reader_of_the_feed_resumes_after_the_last_event_it_saw(scene: Scene) -> None:
    await scene.push(1)
    first = await scene.store.read_feed(ALICE, None, 1)
    rest = await scene.store.read_feed(ALICE, first.events[-1].place, 100)
    end = await scene.store.read_feed(ALICE, rest.events[-1].place, 100)
    assert [event.kind for event in rest.events] == [EventType.ITEMS_PUSHED]
    assert (end.events, end.truncated, rest.truncated) == ([], False, False)


async def test_feed_is_of_one_user(scene: Scene) -> None:
    bob = StreamRef(UserName("bob"), "render")
    await scene.set_up(ref=bob)
    assert {event.source for event in (await scene.store.read_feed(ALICE, None, 100)).events} == {
        "/streams/alice/render"
    }
    assert {event.source for event in (await scene.store.read_feed(bob.user, None, 100)).events} == {
        "/streams/bob/render"
    }


async def test_user_who_never_had_a_stream_has_an_empty_feed(store: Store) -> None:
    assert await store.read_feed(ALICE, None, 10) == EventBatch([], truncated=False)
    assert await store.read_feed(ALICE, "1795358314107-3", 10) == EventBatch([], truncated=True)


async def test_feed_outlives_the_logs_it_tells_of(scene: Scene) -> None:
    await scene.push(1)
    await scene.store._server.command("DEL", scene.store._keys.of_stream(RENDER).events)
    batch = await scene.store.read_feed(ALICE, None, 100)
    assert [event.kind for event in batch.events] == [EventType.STREAM_CREATED, EventType.ITEMS_PUSHED]
    assert batch.events[-1].data == {"first": 1, "last": 1}


async def test_feed_that_was_trimmed_says_so(scene: Scene) -> None:
    first = (await scene.store.read_feed(ALICE, None, 1)).events[0]
    for _ in range(3):
        await scene.push(1)
    await scene.store._server.command("XTRIM", scene.store._keys.feed(ALICE), "MAXLEN", 2)
    batch = await scene.store.read_feed(ALICE, first.place, 100)
    assert (batch.truncated, [_sequence(event.place) for event in batch.events]) == (True, [3, 4])
    assert (await scene.store.read_feed(ALICE, None, 100)).truncated


async def test_reader_who_saw_the_last_trimmed_event_missed_none(scene: Scene) -> None:
    await scene.push(1)
    seen = (await scene.store.read_events(RENDER, None, 2)).events[-1]
    await scene.push(1)
    await scene.store._server.command("XTRIM", scene.store._keys.of_stream(RENDER).events, "MAXLEN", 1)
    batch = await scene.store.read_events(RENDER, seen.id, 100)
    assert (batch.truncated, [int(event.sequence) for event in batch.events]) == (False, [3])


async def test_stream_made_anew_begins_another_epoch_and_the_feed_goes_on(scene: Scene) -> None:
    old = (await scene.store.read_events(RENDER, None, 1)).events[0]
    place = (await scene.store.read_feed(ALICE, None, 1)).events[0].place
    keys = scene.store._keys.of_stream(RENDER)
    await scene.store._server.command("DEL", keys.stream, keys.specs, keys.events)
    await scene.set_up()
    log, feed = await scene.store.read_events(RENDER, old.id, 100), await scene.store.read_feed(ALICE, place, 100)
    assert (log.truncated, [int(event.sequence) for event in log.events]) == (True, [1])
    assert (feed.truncated, [_sequence(event.place) for event in feed.events]) == (False, [2])
    assert log.events[0].id != old.id


async def test_feed_keeps_its_limit_and_little_more(scene: Scene) -> None:
    feed, limit = scene.store._keys.feed(ALICE), default("event_feed")
    await scene.store._server.command("EVAL", _FILL_FEED, 1, feed, limit + 1_000)
    await scene.push(1)
    assert limit <= await scene.store._server.command("XLEN", feed) <= limit + 100


async def test_log_keeps_its_limit_and_little_more(scene: Scene) -> None:
    keys, limit = scene.store._keys.of_stream(RENDER), default("event_log")
    await scene.store._server.command("EVAL", _FILL_LOG, 2, keys.stream, keys.events, limit + 1_000)
    await scene.push(1)
    assert limit <= await scene.store._server.command("XLEN", keys.events) <= limit + 100


@pytest.mark.parametrize(
    ("after", "limit"),
    [("x", 10), ("1", 10), ("9" * 19 + "-1", 10), ("1-" + "9" * 5_000, 10), (None, 0), (None, 1_001)],
)
async def test_wrong_id_or_limit_is_refused(scene: Scene, after: str | None, limit: int) -> None:
    with pytest.raises(Rejected):
        await scene.store.read_events(RENDER, after, limit)


async def test_events_of_no_stream_are_refused(store: Store) -> None:
    with pytest.raises(Rejected, match="no stream alice/none"):
        await store.read_events(StreamRef(ALICE, "none"), None, 10)


async def test_bells_ring_for_what_became_ready_and_for_logs_that_are_followed(scene: Scene) -> None:
    other = StreamRef(ALICE, "other")
    await scene.set_up(ref=other)
    heard: list[Bell] = []
    async with listening(scene.store, heard, RENDER, ALICE):

        async def all_three() -> bool:
            await scene.push(1)
            await scene.push(1, other)
            return {Ready(RENDER), Grown(RENDER), Grown(ALICE)} <= set(heard)

        await until(all_three, "the bells of what is ready, of the stream and of its user")
    assert Grown(other) not in heard


async def test_a_log_that_is_left_rings_no_more_while_others_do(scene: Scene) -> None:
    heard: list[Bell] = []
    ears = listening(scene.store, heard, RENDER, ALICE)
    async with ears:

        async def both() -> bool:
            await scene.push(1)
            return {Grown(RENDER), Grown(ALICE)} <= set(heard)

        await until(both, "the bells of the stream and of its user")
        await ears.bells.leave(RENDER)

        async def user_alone() -> bool:
            # What the store said before it was asked to leave the stream out may come late.
            heard.clear()
            await scene.push(1)
            await until(user, "the bell of the user")
            return Grown(RENDER) not in heard

        async def user() -> bool:
            return Grown(ALICE) in heard

        await until(user_alone, "the bell of the user alone")


async def test_who_comes_while_another_leaves_hears_the_log(scene: Scene) -> None:
    heard: list[Bell] = []
    ears = listening(scene.store, heard, RENDER)
    async with ears:

        async def rings() -> bool:
            await scene.push(1)
            return Grown(RENDER) in heard

        await until(rings, "the first bell")
        for _ in range(20):
            await asyncio.gather(ears.bells.leave(RENDER), ears.bells.follow(RENDER))
        heard.clear()
        await until(rings, "a bell for the one who came last")


async def test_bells_go_on_after_their_connection_was_cut(scene: Scene) -> None:
    heard: list[Bell] = []

    async def rings() -> bool:
        await scene.push(1)
        return bool(heard)

    async with listening(scene.store, heard):
        await until(rings, "a bell")
        assert await scene.store._server.command("CLIENT", "KILL", "TYPE", "pubsub") == 1
        heard.clear()
        await until(rings, "a bell after the cut")


def _sequence(place: str) -> int:
    return int(place.partition("-")[2])

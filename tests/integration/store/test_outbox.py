"""The outbox: what settles an item is owed to its stream's server in the same script, until it is told or given up."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from broker.domain.errors import Rejected
from broker.store.answers import OwedCallback
from broker.wire.callbacks import CallbackState, webhook_id
from broker.wire.names import ItemRef, StreamRef, UserName
from broker.wire.problems import ProblemCode
from broker.wire.states import EXIT_GIVE_BACK, Verdict
from broker.wire.streams import BulkAct, BulkRequest, Retry
from tests.integration.store.owed import AGAIN, CALLBACK, DEAD, DELIVERED, FIRST, MINUTE_MS, TOLD, cancel, take
from tests.integration.store.scene import ALICE, RENDER, SPEC, Scene, failure, result
from tests.support.stores import age
from tests.support.waiting import until


async def _complete(scene: Scene) -> None:
    await scene.store.complete(await scene.running(), result())


async def _complete_late(scene: Scene) -> None:
    lease = await scene.running()
    await age(scene.store, 121_000)
    await scene.store.tick()
    await scene.store.complete(lease, result())


async def _fail(scene: Scene) -> None:
    await scene.store.fail(await scene.running(), failure())


async def _give_back(scene: Scene) -> None:
    await scene.store.fail(await scene.running(), failure(EXIT_GIVE_BACK))


async def _expire(scene: Scene) -> None:
    await scene.dispatched()
    await age(scene.store, 16_000)
    await scene.store.tick()


async def _end(scene: Scene) -> None:
    await scene.end(await scene.dispatched(), Verdict.NEVER_CLAIMED)


async def _hold(scene: Scene) -> None:
    await scene.store.hold(FIRST, "alice")


async def _stop(scene: Scene) -> None:
    await scene.store.cancel(FIRST, "alice")


def _bulk(act: BulkAct) -> Callable[[Scene], Awaitable[None]]:
    async def do(scene: Scene) -> None:
        await scene.store.start_bulk(RENDER, act, BulkRequest(), "alice")
        while await scene.store.tick():
            pass

    return do


WAYS: dict[str, tuple[str, Callable[[Scene], Awaitable[None]]]] = {
    "complete": ("item.completed", _complete),
    "complete late": ("item.completed", _complete_late),
    "fail": ("item.held", _fail),
    "give back": ("item.held", _give_back),
    "expire": ("item.held", _expire),
    "end": ("item.held", _end),
    "hold": ("item.held", _hold),
    "cancel": ("item.cancelled", _stop),
    "bulk hold": ("items.held", _bulk(BulkAct.HOLD)),
    "bulk cancel": ("items.cancelled", _bulk(BulkAct.CANCEL)),
}


@pytest.mark.parametrize(("kind", "settle"), WAYS.values(), ids=WAYS)
async def test_each_way_to_settle_owes_its_event_once_as_the_log_has_it(
    told: Scene, kind: str, settle: Callable[[Scene], Awaitable[None]]
) -> None:
    if settle is _complete_late:
        await told.store.put_stream(RENDER, msgspec.structs.replace(TOLD, retry=Retry()))
        await told.prove()
    await told.push(1)
    assert await take(told.store) == [], "what settles nothing is owed to nobody"

    await settle(told)

    [owed] = await take(told.store)
    log = (await told.store.read_events(RENDER, None, 1_000)).events
    [event] = [each for each in log if each.kind.value == kind]
    assert owed.body == msgspec.json.encode(event)
    assert json.loads(owed.body)["type"] == f"org.vmbroker.{kind}"
    assert (owed.stream, owed.id, owed.attempts) == (RENDER, webhook_id(event.source, event.id), 0)


async def test_stream_that_names_nobody_or_other_kinds_owes_nothing(told: Scene) -> None:
    plain, picky = StreamRef(ALICE, "plain"), StreamRef(ALICE, "picky")
    await told.set_up(SPEC, ref=plain)
    only = msgspec.structs.replace(CALLBACK, events=("item.completed", "items.cancelled"))
    await told.set_up(msgspec.structs.replace(TOLD, callback=only), ref=picky)
    for ref in (plain, picky):
        await cancel(told, 1, ref)
    assert await take(told.store) == []
    await told.store.put_stream(RENDER, SPEC)
    await cancel(told, 1)
    assert await take(told.store) == [], "its latest spec names nobody"


async def test_stream_without_callback_costs_no_command_more(told: Scene) -> None:
    plain = StreamRef(ALICE, "plain")
    await told.set_up(SPEC, ref=plain)
    server, calls = told.store._server, []
    for ref in (plain, RENDER):
        await told.push(2, ref)
        # The first event of a log begins its epoch.
        await told.store.cancel(ItemRef(ref, 1), "alice")
        await server.command("CONFIG", "RESETSTAT")
        await told.store.cancel(ItemRef(ref, 2), "alice")
        stats = await server.command("INFO", "commandstats")
        calls.append(Counter({name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}))
    assert calls[1] - calls[0] == {"xadd": 1, "zadd": 2, "publish": 1}
    assert calls[0] - calls[1] == {}


async def test_what_is_owed_is_trimmed_by_no_log_and_outlives_its_stream(
    told: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cancel(told, 3)
    keys = told.store._keys.of_stream(RENDER)
    for log in (keys.events, keys.feed):
        await told.store._server.command("XTRIM", log, "MAXLEN", 0)
    await told.store.start_bulk(RENDER, BulkAct.PURGE, BulkRequest(), "alice")
    while await told.store.tick():
        pass

    async def clear(_: object) -> None: ...

    while await told.store.get_stream(RENDER) is not None:
        await told.store.forget(clear)
    owed = await take(told.store)
    assert [json.loads(each.body)["subject"] for each in owed] == [f"{RENDER}/{number}" for number in (1, 2, 3)]
    await told.set_up(TOLD)
    await cancel(told, 1)
    [again] = await take(told.store)
    assert again.id not in {each.id for each in owed}, "the same item of the stream made anew is another event"


async def test_what_was_taken_and_not_noted_is_taken_again_and_an_attempt_keeps_others_off(told: Scene) -> None:
    await cancel(told, 2)
    first, second = await take(told.store)
    assert await take(told.store) == []
    await age(told.store, MINUTE_MS)
    begun = await told.store.begin_callback(first.entry)
    assert begun == OwedCallback(first.entry, first.id, RENDER, first.body, 1)
    assert await take(told.store) == [second], "whoever had it died; the other one is being told"
    await age(told.store, MINUTE_MS)
    assert {each.entry for each in await take(told.store)} == {first.entry, second.entry}
    begun = await told.store.begin_callback(first.entry)
    assert begun is not None
    assert begun.attempts == 2
    for _ in range(2):
        await told.store.note_callback(first.entry, DELIVERED)
    assert await told.store.begin_callback(first.entry) is None
    await age(told.store, MINUTE_MS)
    assert await take(told.store) == [second]


async def test_failure_is_due_again_after_its_pause_and_no_earlier(told: Scene) -> None:
    await cancel(told, 1)
    [owed] = await take(told.store)
    await told.store.begin_callback(owed.entry)
    await told.store.note_callback(owed.entry, AGAIN)
    page = await told.store.list_callbacks(ALICE, CallbackState.WAITING, None, 10)
    [view] = page.callbacks
    assert (view.callback, view.stream, view.subject) == (owed.id, str(RENDER), str(FIRST))
    assert (view.attempts, view.status, view.sentence) == (1, 500, "it answered 500")
    assert view.last_at is not None
    assert view.next_at is not None
    assert view.last_at < view.next_at
    await age(told.store, 4_000)
    assert await take(told.store) == []
    await age(told.store, 1_000)
    assert [each.attempts for each in await take(told.store)] == [1]


async def test_users_take_turns_and_nobody_has_more_than_their_bound_out(told: Scene) -> None:
    bob = StreamRef(UserName("bob"), "render")
    await cancel(told, 5)
    await told.set_up(TOLD, ref=bob)
    await cancel(told, 2, bob)

    async def users(most: int = 100) -> list[str]:
        return [each.stream.user for each in await take(told.store, most, 2)]

    first = await take(told.store, 2, 2)
    assert [each.stream.user for each in first] == ["alice", "alice"]
    assert [json.loads(each.body)["subject"][-1] for each in first] == ["1", "2"]
    assert await users(1) == ["bob"]
    assert await users() == ["bob"], "alice has as many out as she may"
    await told.store.note_callback(first[0].entry, AGAIN)
    assert await users() == ["alice"]
    assert await users() == []


async def test_attempt_that_was_begun_late_is_among_those_that_are_out(told: Scene) -> None:
    await cancel(told, 2)
    [first] = await take(told.store, 100, 1)
    await age(told.store, MINUTE_MS)
    await told.store.begin_callback(first.entry)
    assert await take(told.store, 100, 1) == []
    await told.store.note_callback(first.entry, DELIVERED)
    [second] = await take(told.store, 100, 1)
    assert second.id != first.id


async def test_bell_rings_for_what_is_owed_and_for_what_waited_for_another(told: Scene) -> None:
    heard = asyncio.Event()

    async def listen() -> None:
        async with told.store.owing() as bells:
            async for _ in bells:
                heard.set()

    async def rings() -> None:
        await asyncio.wait_for(heard.wait(), 10)
        heard.clear()

    listener = asyncio.create_task(listen())
    channel = told.store._keys.outbox_bell

    async def listens() -> bool:
        return bool((await told.store._server.command("PUBSUB", "NUMSUB", channel))[1])

    await until(listens, "the bell is heard")
    await cancel(told, 2)
    await rings()
    [owed] = await take(told.store, 100, 1)
    heard.clear()
    await told.store.note_callback(owed.entry, DELIVERED)
    await rings()
    listener.cancel()
    await asyncio.wait({listener})


async def test_replayed_one_is_told_again_from_the_first_attempt(told: Scene) -> None:
    await cancel(told, 2)
    dead, delivered = await take(told.store)
    for other in ("", "evt_", webhook_id(f"/streams/{RENDER}", "1-1")):
        with pytest.raises(Rejected) as refused:
            await told.store.replay_callback(ALICE, other)
        assert refused.value.code is ProblemCode.NOT_FOUND
    view = await told.store.replay_callback(ALICE, dead.id)
    assert (view.state, view.attempts) == (CallbackState.WAITING, 0), "nothing is to be done for one on its way"
    assert await take(told.store) == []
    for owed, outcome in ((dead, DEAD), (delivered, DELIVERED)):
        await told.store.begin_callback(owed.entry)
        await told.store.note_callback(owed.entry, outcome)
    with pytest.raises(Rejected):
        await told.store.replay_callback(UserName("bob"), dead.id)
    page = await told.store.list_callbacks(ALICE, None, None, 10)
    assert [(each.callback, each.state.value) for each in page.callbacks] == [
        (delivered.id, "delivered"),
        (dead.id, "dead"),
    ]
    assert page.counts == {"waiting": 0, "delivered": 1, "dead": 1, "dropped": 0}
    assert [each.next_at for each in page.callbacks] == [None, None]
    for owed in (dead, delivered):
        view = await told.store.replay_callback(ALICE, owed.id)
        assert (view.callback, view.state, view.attempts) == (owed.id, CallbackState.WAITING, 0)
    assert {each.id: each.body for each in await take(told.store)} == {each.id: each.body for each in (dead, delivered)}


async def test_late_word_that_it_was_delivered_counts_for_one_given_up(told: Scene) -> None:
    await cancel(told, 1)
    [owed] = await take(told.store)
    for outcome in (DEAD, AGAIN, DELIVERED, DEAD):
        await told.store.note_callback(owed.entry, outcome)
    page = await told.store.list_callbacks(ALICE, None, None, 10)
    assert [each.state for each in page.callbacks] == [CallbackState.DELIVERED]

"""Callbacks that were told or given up: how long they are kept, how many, and how they are listed."""

from dataclasses import replace

import msgspec
import pytest

from broker.domain.errors import Rejected
from broker.domain.limits import LIMITS, default
from broker.store.answers import CallbackOutcome
from broker.store.keys import DEAD_KEEP_MS, DELIVERED_KEEP_MS
from broker.wire.callbacks import CallbackState
from broker.wire.names import ItemRef, StreamRef
from broker.wire.problems import ProblemCode
from broker.wire.streams import BulkAct, BulkRequest
from tests.integration.store.owed import AGAIN, DEAD, DELIVERED, FIRST, TOLD, cancel, states, take
from tests.integration.store.scene import ALICE, RENDER, SPEC, Scene
from tests.support.stores import age


async def test_settled_ones_go_after_their_time_and_lost_ones_are_counted(told: Scene) -> None:
    await cancel(told, 3)
    delivered, dead, waiting = await take(told.store)
    for owed, outcome in ((delivered, DELIVERED), (dead, DEAD), (waiting, AGAIN)):
        await told.store.begin_callback(owed.entry)
        await told.store.note_callback(owed.entry, outcome)
    await age(told.store, DELIVERED_KEEP_MS)
    assert await take(told.store) == [replace(waiting, attempts=1)]
    assert await states(told) == {"waiting": 1, "delivered": 0, "dead": 1, "dropped": 0}
    with pytest.raises(Rejected):
        await told.store.replay_callback(ALICE, delivered.id)
    await age(told.store, DEAD_KEEP_MS)
    await take(told.store)
    assert await states(told) == {"waiting": 1, "delivered": 0, "dead": 0, "dropped": 1}
    await told.store.note_callback(waiting.entry, DELIVERED)
    await age(told.store, DELIVERED_KEEP_MS)
    assert await take(told.store) == []
    left = [key.rpartition("}:")[2] for key in await told.store._server.command("KEYS", "*alice*")]
    assert [key for key in left if key.startswith(("callback", "owed", "dead", "delivered"))] == []


async def test_most_settled_ones_are_kept_and_the_oldest_make_room(told: Scene) -> None:
    most = default("callbacks_delivered")
    await cancel(told, 2)
    first, second = await take(told.store)
    await told.store.note_callback(first.entry, DELIVERED)
    key = f"{told.store._keys.delivered_of}alice"
    others = [part for number in range(most - 1) for part in (9 * 10**15, f"{number + 1}-0")]
    await told.store._server.command("ZADD", key, *others)
    await told.store.note_callback(second.entry, DELIVERED)
    assert await told.store._server.command("ZCARD", key) == most
    [view] = (await told.store.list_callbacks(ALICE, None, None, 10)).callbacks
    assert view.callback == second.id


async def test_nothing_is_begun_that_would_owe_more_than_a_user_may_be_owed(
    told: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "callbacks_waiting", LIMITS["callbacks_waiting"]._replace(default=2))
    await told.push(3)
    for number in (1, 2):
        await told.store.hold(ItemRef(RENDER, number), "alice")
    release_all = told.store.start_bulk(RENDER, BulkAct.RELEASE, BulkRequest(), "alice")
    for act in (told.push(1), told.store.release(FIRST), release_all):
        with pytest.raises(Rejected) as refused:
            await act
        assert refused.value.code is ProblemCode.QUOTA_EXCEEDED
    await told.store.cancel(ItemRef(RENDER, 3), "alice")
    assert len(await take(told.store)) == 3, "what was begun before is owed all the same"
    await told.set_up(SPEC, ref=StreamRef(ALICE, "plain"), items=1)
    await told.store.put_stream(RENDER, msgspec.structs.replace(TOLD, callback=None))
    await told.push(1)
    await told.store.release(FIRST)


@pytest.mark.parametrize("state", [None, *CallbackState])
async def test_pages_show_each_callback_once_in_order(told: Scene, state: CallbackState | None) -> None:
    await cancel(told, 5)
    taken = await take(told.store)
    for owed in taken:
        again = CallbackOutcome(state or CallbackState.WAITING, "", again_ms=1_000)
        await told.store.note_callback(owed.entry, again)
    shown, cursor = [], None
    while True:
        page = await told.store.list_callbacks(ALICE, state, cursor, 2)
        shown += [each.callback for each in page.callbacks]
        cursor = page.next_cursor
        if cursor is None:
            break
    ids = [each.id for each in taken]
    assert shown == (ids if state is CallbackState.WAITING else ids[::-1])


async def test_page_goes_on_where_its_last_one_is_gone(told: Scene) -> None:
    await cancel(told, 3)
    taken = await take(told.store)
    for owed in taken:
        await told.store.begin_callback(owed.entry)
        await told.store.note_callback(owed.entry, DEAD)
        await age(told.store, 1)
    page = await told.store.list_callbacks(ALICE, CallbackState.DEAD, None, 1)
    await told.store.replay_callback(ALICE, page.callbacks[0].callback)
    page = await told.store.list_callbacks(ALICE, CallbackState.DEAD, page.next_cursor, 2)
    assert [each.callback for each in page.callbacks] == [taken[1].id, taken[0].id]
    for first in ("0-0", "000-0"):
        assert not (await told.store.list_callbacks(ALICE, None, first, 2)).callbacks
    for cursor, limit in (("soon", 1), ("1:2", 1), (f"{1 << 64}-0", 1), (None, 0)):
        with pytest.raises(Rejected):
            await told.store.list_callbacks(ALICE, CallbackState.DEAD, cursor, limit)


async def test_server_that_is_gone_is_owed_nothing_more_until_the_spec_is_put_again(told: Scene) -> None:
    await cancel(told, 1)
    for _ in range(2):
        await told.store.stop_callback(RENDER, "it answered 410")
    await cancel(told, 1)
    assert len(await take(told.store)) == 1
    stream = await told.store.get_stream(RENDER)
    assert stream is not None
    assert stream.callback_off is not None
    assert (stream.callback_off.code, stream.callback_off.sentence) == ("callback_gone", "it answered 410")
    assert (await told.events()).count("stream.callback_off") == 1
    stream = await told.store.put_stream(RENDER, TOLD)
    assert (stream.revision, stream.callback_off, stream.callback_off_at) == (1, None, None)
    await cancel(told, 1)
    assert len(await take(told.store)) == 1

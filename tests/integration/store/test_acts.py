"""What a researcher does beside cancelling: priority, delay, names, hold, release, pause; and within what bounds."""

import msgspec
import pytest

from broker.domain.errors import Conflict, Rejected
from broker.store import Store
from broker.wire.items import NewItem, Pushed
from broker.wire.names import ItemRef, UserName
from broker.wire.problems import ProblemCode
from broker.wire.states import ItemState, Priority, Verdict
from broker.wire.streams import Retry
from tests.integration.store.scene import RENDER, ROOM, SPEC, Scene, failure, lease_of, result
from tests.support.stores import age

FIRST, SECOND = ItemRef(RENDER, 1), ItemRef(RENDER, 2)
HOUR_MS = 3_600_000


async def _push(store: Store, *items: NewItem, key: str | None = None) -> Pushed:
    return await store.push(RENDER, items, idempotency_key=key, body_digest="0" * 64)


def _in(priority: Priority) -> NewItem:
    return NewItem(url="https://share.example/1", priority=priority)


async def _given(scene: Scene, count: int) -> list[int]:
    await scene.prove()
    return [(await scene.dispatched()).item.ref.number for _ in range(count)]


async def test_items_are_given_by_class_and_in_each_class_in_order(scene: Scene) -> None:
    order = [Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.NORMAL, Priority.HIGH, Priority.LOW]
    await _push(scene.store, *map(_in, order))

    assert await _given(scene, 6) == [3, 5, 2, 4, 1, 6]
    views = (await scene.store.list_items(RENDER, None, None, 10)).items
    assert [view.priority for view in views] == order


async def test_what_comes_back_comes_to_the_head_of_its_class(scene: Scene) -> None:
    await _push(scene.store, _in(Priority.HIGH), _in(Priority.HIGH), _in(Priority.NORMAL))
    await scene.prove()
    first = await scene.dispatched()
    await scene.end(first, Verdict.HOST_ERROR)

    assert await _given(scene, 3) == [1, 2, 3]


async def test_a_class_counts_within_each_revision_and_before_it(scene: Scene) -> None:
    await _push(scene.store, _in(Priority.NORMAL))
    await scene.set_up(msgspec.structs.replace(SPEC, run="/opt/app/other {input} {output}"))
    await scene.prove()
    await _push(scene.store, _in(Priority.HIGH))
    keys = scene.store._keys.of_stream(RENDER)
    await scene.store._server.command("HSET", keys.stream, "proven:1", 1)

    assert await _given(scene, 2) == [2, 1]


async def test_a_delayed_item_becomes_ready_in_its_time(scene: Scene) -> None:
    pushed = await _push(scene.store, NewItem(url="https://share.example/1", delay_ms=HOUR_MS), _in(Priority.NORMAL))

    assert (pushed.first, pushed.last) == (1, 2)
    assert await scene.counts() == {"delayed": 1, "ready": 1}
    view = await scene.item()
    assert (view.state, view.not_before is not None) == (ItemState.DELAYED, True)
    await scene.store.tick()
    assert await _given(scene, 1) == [2]
    await age(scene.store, HOUR_MS)
    await scene.store.tick()
    view = await scene.item()
    assert (view.state, view.not_before) == (ItemState.READY, None)


async def test_a_name_is_there_once_in_a_stream(scene: Scene) -> None:
    def named(*names: str) -> list[NewItem]:
        return [NewItem(url=f"https://share.example/{index}", name=name) for index, name in enumerate(names)]

    first = await _push(scene.store, *named("a", "b", "a"))
    again = await _push(scene.store, *named("b", "c"), NewItem(url="https://share.example/x"), key="k")
    nothing = await _push(scene.store, *named("a", "b"))
    repeated = await _push(scene.store, *named("b", "c"), NewItem(url="https://share.example/x"), key="k")

    assert (first.accepted, first.first, first.last, first.duplicates) == (2, 1, 2, 1)
    assert (again.accepted, again.first, again.last, again.duplicates) == (2, 3, 4, 1)
    assert (nothing.accepted, nothing.duplicates) == (0, 2)
    assert (repeated.accepted, repeated.first, repeated.duplicates, repeated.repeated) == (2, 3, 1, True)
    assert await scene.counts() == {"ready": 4}
    events = (await scene.store.read_events(RENDER, None, 100)).events
    assert [event.kind.value for event in events] == ["stream.created", "items.pushed", "items.pushed"]


async def test_a_name_is_free_again_when_its_item_is_forgotten(store: Store) -> None:
    scene = await Scene(store).set_up(msgspec.structs.replace(SPEC, keep_ms=60_000))
    await _push(store, NewItem(name="a"))
    await store.cancel(FIRST, "alice")
    assert (await _push(store, NewItem(name="a"))).duplicates == 1, "a settled item still has its name"
    await age(store, 200_000)

    async def clear(_: object) -> None: ...

    assert await store.forget(clear) == 1
    assert (await _push(store, NewItem(name="a"))).accepted == 1
    assert await scene.counts() == {"ready": 1}


@pytest.mark.parametrize("state", ["ready", "delayed"])
async def test_an_item_is_set_aside_and_put_back_with_its_counters_reset(scene: Scene, state: str) -> None:
    await scene.push(1)
    if state == "delayed":
        await scene.store.fail(await scene.running(), failure())

    held = await scene.store.hold(FIRST, "alice", "a bad frame")

    assert held.state is ItemState.HELD
    assert held.reason is not None
    assert (held.reason.code, held.reason.sentence) == ("held_by_user", "alice held it: a bad frame")
    assert await scene.counts() == {"held": 1}
    assert await scene.offer() is None
    assert await scene.store._server.command("ZCARD", scene.store._keys.due) == 0

    released = await scene.store.release(FIRST)

    assert (released.state, released.reason, released.attempts, released.boots) == (ItemState.READY, None, 0, 0)
    assert await scene.counts() == {"ready": 1}
    assert await scene.store._server.command("ZCARD", scene.store._keys.keep) == 0
    kinds = [event.kind.value for event in (await scene.store.read_events(RENDER, None, 100)).events]
    assert kinds[-2:] == ["item.held", "item.released"]
    assert str((await scene.dispatched()).item.ref) == "alice/render/1"


async def test_an_item_that_its_policy_held_runs_again_when_it_is_released(scene: Scene) -> None:
    await scene.set_up(msgspec.structs.replace(SPEC, retry=Retry(attempts=1)), items=1)
    lease = await scene.running()
    await scene.store.fail(lease, failure())
    assert (await scene.item()).state is ItemState.HELD

    await scene.store.release(FIRST)
    claimed = await scene.claimed()

    item = await scene.item()
    assert (item.attempts, item.boots, claimed.fence) == (0, 1, 2)
    with pytest.raises(Conflict) as refused:
        await scene.store.complete(lease, result())
    assert refused.value.code is ProblemCode.LEASE_LOST


async def test_holding_and_releasing_again_changes_nothing(scene: Scene) -> None:
    await scene.push(1)
    await scene.store.hold(FIRST, "alice", "first")
    again = await scene.store.hold(FIRST, "bob", "second")
    assert again.reason is not None
    assert again.reason.sentence == "alice held it: first"
    await scene.store.release(FIRST)
    assert (await scene.store.release(FIRST)).state is ItemState.READY
    assert await scene.counts() == {"ready": 1}


async def test_what_a_vm_has_is_not_held_and_what_is_settled_neither_held_nor_released(scene: Scene) -> None:
    await scene.push(1)
    lease = await scene.running()
    with pytest.raises(Conflict, match="a vm has alice/render/1") as refused:
        await scene.store.hold(FIRST, "alice")
    assert refused.value.code is ProblemCode.GIVEN_OUT
    await scene.store.complete(lease, result())
    for act in (scene.store.hold(FIRST, "alice"), scene.store.release(FIRST)):
        with pytest.raises(Conflict, match="nothing to") as settled:
            await act
        assert settled.value.code is ProblemCode.SETTLED
    for act in (scene.store.hold(SECOND, "alice"), scene.store.release(SECOND)):
        with pytest.raises(Rejected, match="there is no item alice/render/2"):
            await act


async def test_a_paused_stream_gives_nothing_out_until_it_is_resumed(scene: Scene) -> None:
    await scene.push(3)
    lease = await scene.running()
    await scene.store.pause(RENDER, "alice", "the disk is full")
    await scene.store.pause(RENDER, "bob", "another reason")
    await scene.push(1)

    view = await scene.store.get_stream(RENDER)
    assert view is not None
    assert view.paused is not None
    assert (view.paused.code, view.paused.sentence) == ("paused_by_user", "alice paused it: the disk is full")
    assert await scene.offer() is None
    await scene.store.complete(lease, result())

    await scene.store.resume(RENDER, "alice")
    await scene.store.resume(RENDER, "alice")

    assert str((await scene.dispatched()).item.ref) == "alice/render/2"
    kinds = [event.kind.value for event in (await scene.store.read_events(RENDER, None, 100)).events]
    assert [kind for kind in kinds if kind.startswith("stream.")] == [
        "stream.created",
        "stream.paused",
        "stream.resumed",
    ]


async def test_a_machine_that_fails_on_two_nodes_pauses_its_stream(scene: Scene) -> None:
    await scene.push(4)
    await scene.end(await scene.dispatched(), Verdict.IMAGE_ERROR)
    await scene.end(await scene.dispatched(), Verdict.IMAGE_ERROR)
    view = await scene.store.get_stream(RENDER)
    assert view is not None
    assert view.paused is None, "twice on one node says nothing of the machine"

    await scene.end(await scene.dispatched(node="node2"), Verdict.XML_REFUSED)

    view = await scene.store.get_stream(RENDER)
    assert view is not None
    assert view.paused is not None
    assert view.paused.code == "machine_faulty"
    assert "machine alice/deb12, revision 1, failed on node1 and node2" in view.paused.sentence
    assert await scene.offer() is None
    await scene.store.resume(RENDER, "alice")
    assert await scene.offer() is not None


async def test_a_claim_clears_a_machine_of_what_failed_before(scene: Scene) -> None:
    await scene.push(4)
    await scene.end(await scene.dispatched(), Verdict.NEVER_CLAIMED)
    await scene.running()
    await scene.end(await scene.dispatched(node="node2"), Verdict.NEVER_CLAIMED)

    view = await scene.store.get_stream(RENDER)
    assert view is not None
    assert view.paused is None


async def test_nobody_has_more_items_bytes_or_streams_than_they_may(scene: Scene) -> None:
    account = scene.store._keys.of_stream(RENDER).account
    await scene.store._server.command("HSET", account, "most:items", 3, "most:bytes", 200, "most:streams", 1)
    await scene.push(2)

    with pytest.raises(Rejected, match="alice would have more than 3 items that are kept: nothing was acc") as refused:
        await scene.push(2)
    assert refused.value.code is ProblemCode.QUOTA_EXCEEDED
    with pytest.raises(Rejected, match="more than 200 bytes of URLs"):
        await _push(scene.store, NewItem(url=f"https://share.example/{'x' * 200}"))
    with pytest.raises(Rejected, match="alice has 1 streams, as many as may be"):
        await scene.store.put_stream(RENDER._replace(name="second"), SPEC)
    await scene.store.put_stream(RENDER, msgspec.structs.replace(SPEC, keep_ms=60_000))
    assert await scene.counts() == {"ready": 2}


async def test_what_a_user_has_is_counted_back_when_it_is_forgotten(store: Store) -> None:
    scene = await Scene(store).set_up(msgspec.structs.replace(SPEC, keep_ms=60_000), items=2)
    await _push(store, NewItem(url="https://share.example/3", name="three", params={"seed": "3"}))
    account = store._keys.of_stream(RENDER).account
    assert await store._server.command("HGET", account, "items") == "3"
    for number in (1, 2, 3):
        await store.cancel(ItemRef(RENDER, number), "alice")
    await age(store, 200_000)

    async def clear(_: object) -> None: ...

    assert await store.forget(clear) == 3
    assert await store._server.command("HMGET", account, "items", "bytes") == ["0", "0"]
    assert await scene.counts() == {}


async def test_several_items_are_given_at_once_as_far_as_they_fit(scene: Scene) -> None:
    await scene.push(10)
    await scene.prove()

    given = await scene.offers(most=8)

    assert [str(each.item.ref) for each in given] == [f"alice/render/{number}" for number in range(1, 5)]
    assert len({each.dispatch for each in given}) == 4, "the room has 4 vcpus"
    assert await scene.counts() == {"ready": 6, "dispatched": 4}
    again = await scene.offers(most=8, key="key-0")
    assert [(each.dispatch, each.repeated) for each in again] == [(each.dispatch, True) for each in given]
    assert len(await scene.offers(most=2)) == 2


async def test_no_more_canaries_are_given_at_once_than_one_by_one(scene: Scene) -> None:
    await scene.push(10)
    assert len(await scene.offers(most=8)) == 2
    assert await scene.offers(most=8) == []


async def test_users_take_turns_within_one_answer(store: Store) -> None:
    scene = await Scene(store).set_up(items=10)
    other = RENDER._replace(user=UserName("bob"))
    await scene.set_up(items=10, ref=other)
    await scene.prove()
    await scene.prove(other)
    room = msgspec.structs.replace(ROOM, vcpus=6)

    given = await scene.offers(room, most=6)

    assert sorted(str(each.item.ref).split("/")[0] for each in given) == ["alice"] * 3 + ["bob"] * 3


async def test_a_lease_of_an_item_given_with_others_is_its_own(scene: Scene) -> None:
    await scene.push(2)
    await scene.prove()
    first, second = await scene.offers(most=2)
    lease = lease_of(await scene.claim(second))
    await scene.store.complete(lease, result())

    assert (await scene.item(2)).state is ItemState.DONE
    assert (await scene.item(1)).state is ItemState.DISPATCHED
    assert str((await scene.claim(first)).item.ref) == "alice/render/1"

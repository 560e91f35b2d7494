"""Acts on all items of a stream: what they reach counts as reached at once; they are carried out part by part."""

import msgspec
import pytest

from broker.domain.errors import Conflict, Rejected
from broker.store import Forgotten, Store
from broker.wire.items import NewItem
from broker.wire.names import DispatchId, ItemRef, MachineRef
from broker.wire.problems import ProblemCode
from broker.wire.states import ItemState, Priority
from broker.wire.streams import BulkAct, BulkRequest, BulkView, Retry
from tests.integration.store.scene import ALICE, RENDER, SPEC, Scene, failure, lease_of, result
from tests.support.stores import age

GRACE_MS = 60_000


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.store.bulk.PART_ITEMS", 3)


async def _start(scene: Scene, act: BulkAct, *states: ItemState, rate: int = 0) -> None:
    await scene.store.start_bulk(RENDER, act, BulkRequest(states=states, reason="a reason", rate=rate), "alice")


async def _finish(store: Store) -> int:
    """Tick until nothing moves any more; return how many ticks it took."""
    ticks = 0
    while await store.tick():
        ticks += 1
    return ticks


async def _bulk(scene: Scene) -> BulkView:
    view = await scene.store.get_stream(RENDER)
    assert view is not None
    assert view.bulk is not None
    return view.bulk


async def test_everything_that_is_not_done_is_cancelled_part_by_part(scene: Scene) -> None:
    await scene.set_up(msgspec.structs.replace(SPEC, retry=Retry(hold_exit_codes=(2,))), items=10)
    await scene.prove()
    await scene.store.complete(await scene.running(), result())
    await scene.store.fail(await scene.running(), failure())
    await scene.store.fail(await scene.running(), failure(2))
    running, dispatched = await scene.running(), await scene.dispatched()
    assert await scene.counts() == {"done": 1, "delayed": 1, "held": 1, "running": 1, "dispatched": 1, "ready": 5}

    await _start(scene, BulkAct.CANCEL)

    assert await scene.offer() is None, "nothing of it is given out from now on"
    for late in (scene.claim(dispatched), scene.store.complete(running, result())):
        with pytest.raises(Conflict) as refused:
            await late
        assert refused.value.code in {ProblemCode.TICKET_SPENT, ProblemCode.LEASE_LOST}
    bulk = await _bulk(scene)
    assert (bulk.act, bulk.by, bulk.of, bulk.looked_at, bulk.ended_at) == (BulkAct.CANCEL, "alice", 10, 0, None)
    assert await _finish(scene.store) >= 3
    assert await scene.counts() == {"done": 1, "cancelled": 9}
    bulk = await _bulk(scene)
    assert (bulk.looked_at, bulk.acted, bulk.ended_at is not None) == (10, 9, True)
    item = await scene.item(9)
    assert item.reason is not None
    assert (item.reason.code, item.reason.sentence) == ("cancelled", "alice cancelled it: a reason")
    keys = scene.store._keys
    for key in (keys.deadlines, keys.due, keys.bulks, keys.of_stream(RENDER).ready):
        assert await scene.store._server.command("ZCARD", key) == 0, "nothing of them is left anywhere"
    told = (await scene.store.read_events(RENDER, None, 100)).events[-7:]
    assert [event.data.get("numbers") for event in told if event.kind.value == "items.cancelled"] == [
        "2-4",
        "5-7",
        "8-10",
    ]
    assert told[-1].kind.value == "bulk.ended"
    assert told[-1].data["count"] == 9


async def test_what_is_pushed_after_the_start_is_not_reached(scene: Scene) -> None:
    await scene.push(4)
    await _start(scene, BulkAct.CANCEL, ItemState.READY)
    await scene.push(2)
    assert await scene.offer() is None, "it waits behind those that are about to be stopped"
    await _finish(scene.store)

    assert await scene.counts() == {"cancelled": 4, "ready": 2}
    assert str((await scene.dispatched()).item.ref) == "alice/render/5"


async def test_only_the_states_that_are_named_are_reached(scene: Scene) -> None:
    await scene.push(4)
    await scene.prove()
    lease = await scene.running()
    await _start(scene, BulkAct.CANCEL, ItemState.READY)
    await scene.store.complete(lease, result())
    await _finish(scene.store)
    assert await scene.counts() == {"done": 1, "cancelled": 3}


async def test_items_are_held_and_released_in_their_classes(scene: Scene) -> None:
    items = [NewItem(priority=Priority.LOW), NewItem(delay_ms=3_600_000), NewItem(priority=Priority.HIGH), NewItem()]
    await scene.set_up(msgspec.structs.replace(SPEC, run="/opt/app/run {output}"))
    await scene.store.push(RENDER, items, idempotency_key=None, body_digest="")
    await scene.prove()

    await _start(scene, BulkAct.HOLD)
    await _finish(scene.store)

    assert await scene.counts() == {"held": 4}
    assert await scene.offer() is None

    await _start(scene, BulkAct.RELEASE)
    await _finish(scene.store)

    assert await scene.counts() == {"ready": 4}
    given = [str((await scene.dispatched()).item.ref) for _ in range(4)]
    assert given == [f"alice/render/{number}" for number in (3, 2, 4, 1)]


async def test_a_rate_bounds_how_many_come_back_at_once(scene: Scene) -> None:
    await scene.push(9)
    await _start(scene, BulkAct.HOLD)
    await _finish(scene.store)
    await _start(scene, BulkAct.RELEASE, rate=2)

    await _finish(scene.store)

    assert await scene.counts() == {"held": 7, "ready": 2}
    await age(scene.store, 2_000)
    await _finish(scene.store)
    assert await scene.counts() == {"held": 3, "ready": 6}


async def test_one_at_a_time_and_the_same_again_changes_nothing(scene: Scene) -> None:
    await scene.push(9)
    await _start(scene, BulkAct.HOLD)
    await scene.store.tick()
    await _start(scene, BulkAct.HOLD)
    assert (await _bulk(scene)).acted == 3
    with pytest.raises(Conflict, match="a hold of alice/render goes on") as refused:
        await _start(scene, BulkAct.CANCEL)
    assert refused.value.code is ProblemCode.BULK_BUSY
    await _finish(scene.store)
    await _start(scene, BulkAct.CANCEL)
    await _finish(scene.store)
    assert await scene.counts() == {"cancelled": 9}


async def test_two_processes_do_each_part_once(scene: Scene) -> None:
    await scene.push(9)
    await _start(scene, BulkAct.HOLD)
    going = await scene.store._going(RENDER)
    assert going is not None
    await scene.store._part(going, 3)
    assert (await scene.store._part(going, 3)).word == "changed"
    assert (await _bulk(scene)).acted == 3


@pytest.mark.parametrize(
    ("act", "state"),
    [(BulkAct.HOLD, ItemState.RUNNING), (BulkAct.RELEASE, ItemState.READY), (BulkAct.CANCEL, ItemState.DONE)],
)
async def test_a_state_in_which_the_act_cannot_be_done_is_refused(scene: Scene, act: BulkAct, state: ItemState) -> None:
    with pytest.raises(Rejected, match=f"an item that is {state} cannot be"):
        await _start(scene, act, state)


async def test_a_stream_is_purged_with_everything_of_it(store: Store) -> None:
    scene = await Scene(store).set_up(items=7)
    await scene.prove()
    await store.push(
        RENDER, [NewItem(url="https://share.example/8", name="eight")], idempotency_key="k", body_digest="d"
    )
    await store.complete(await scene.running(), result())
    given = await scene.prepared()
    lease = lease_of(await scene.claim(given))
    cleared: list[tuple[ItemRef, tuple[DispatchId, ...]]] = []

    async def clear(forgotten: Forgotten) -> None:
        cleared.append(tuple(forgotten))  # type: ignore[arg-type] # of whatever kind

    await store.start_bulk(RENDER, BulkAct.PURGE, BulkRequest(), "alice")

    for refused in (
        store.push(RENDER, [NewItem()], idempotency_key=None, body_digest=""),
        store.put_stream(RENDER, SPEC),
    ):
        with pytest.raises(Conflict, match="is being removed"):
            await refused
    await _finish(store)
    assert await store.forget(clear) == 0, "the vm that had an item is told first"
    assert (await store.extend(lease, "")).instruction == "cancel"
    await age(store, GRACE_MS + 1_000)
    while await store.forget(clear):
        pass

    assert await store.get_stream(RENDER) is None
    assert [number for (_, number), _ in cleared] == list(range(1, 9))
    assert cleared[1][1] == (given.dispatch,)
    left = [key for key in await store._server.command("KEYS", "*") if "render" in key and "machine_streams" not in key]
    assert left == []
    account = store._keys.of_stream(RENDER).account
    assert await store._server.command("HMGET", account, "items", "bytes") == ["0", "0"]
    await store.delete_machine(MachineRef(ALICE, "deb12"))


async def test_a_stream_made_anew_after_a_purge_has_nothing_of_the_one_before(store: Store) -> None:
    scene = await Scene(store).set_up()
    await store.push(RENDER, [NewItem(url="https://a.example/1")], idempotency_key="k", body_digest="d")
    before = await store.get_stream(RENDER)

    async def clear(_: Forgotten) -> None: ...

    await store.start_bulk(RENDER, BulkAct.PURGE, BulkRequest(), "alice")
    await _finish(store)
    while await store.forget(clear):
        pass
    await scene.set_up(msgspec.structs.replace(SPEC, run="/opt/app/new {input} {output}"))

    after = await store.get_stream(RENDER)
    assert before is not None
    assert after is not None
    assert (after.revision, after.spec.run) == (2, "/opt/app/new {input} {output}")
    assert before.last_event is not None
    assert after.last_event is not None
    assert before.last_event.partition("-")[0] != after.last_event.partition("-")[0]
    assert [each.revision for each in await store.revisions(RENDER)] == [2], "that of the purged one is gone"
    assert await store.get_stream(RENDER, 1) is None
    assert await store.first_answer(RENDER, "k", "d") is None
    pushed = await store.push(RENDER, [NewItem(url="https://a.example/1")], idempotency_key="k", body_digest="d")
    assert (pushed.first, pushed.repeated) == (1, False)
    assert (await scene.dispatched()).spec.run == "/opt/app/new {input} {output}"

    await store.start_bulk(RENDER, BulkAct.PURGE, BulkRequest(), "alice")
    await _finish(store)
    await age(store, GRACE_MS + 1_000)
    while await store.forget(clear):
        pass
    assert await store.get_stream(RENDER) is None, "once more"


async def test_a_purge_takes_the_place_of_any_other_act(scene: Scene) -> None:
    await scene.push(9)
    await _start(scene, BulkAct.HOLD)
    await scene.store.tick()
    await scene.store.start_bulk(RENDER, BulkAct.PURGE, BulkRequest(), "alice")
    await _finish(scene.store)

    async def clear(_: Forgotten) -> None: ...

    while await scene.store.forget(clear):
        pass
    assert await scene.store.get_stream(RENDER) is None

import msgspec
import pytest

from broker.domain.errors import Conflict, Rejected
from broker.store import Forgotten
from broker.wire.names import ItemRef
from broker.wire.states import ItemState
from broker.wire.streams import Retry
from tests.integration.store.scene import RENDER, SPEC, Scene, failure, result
from tests.support.stores import age

MINUTE_MS = 60_000
FIRST = ItemRef(RENDER, 1)


async def _reach(scene: Scene, state: ItemState) -> None:
    """Bring the stream's one item into a state."""
    match state:
        case ItemState.DISPATCHED:
            await scene.dispatched()
        case ItemState.RUNNING:
            await scene.running()
        case ItemState.DELAYED:
            await scene.store.fail(await scene.running(), failure())
        case ItemState.HELD:
            await scene.store.fail(await scene.running(), failure(2))


@pytest.mark.parametrize("state", ["ready", "delayed", "dispatched", "running", "held"])
async def test_item_is_cancelled_wherever_it_is_and_leaves_no_trace_there(scene: Scene, state: str) -> None:
    await scene.set_up(msgspec.structs.replace(SPEC, retry=Retry(hold_exit_codes=(2,))), items=1)
    await _reach(scene, ItemState(state))
    assert (await scene.item()).state == state
    fence = int(await scene.store._server.command("HGET", scene.store._keys.item(FIRST), "fence") or 0)

    cancelled = await scene.store.cancel(FIRST, "alice")

    assert (cancelled.state, cancelled.settled_at is not None, cancelled.not_before) == (
        ItemState.CANCELLED,
        True,
        None,
    )
    assert await scene.counts() == {"cancelled": 1}
    assert {each for each in ItemState if await scene.numbers(each)} == {ItemState.CANCELLED}
    keys = scene.store._keys
    for dated in (keys.deadlines, keys.due):
        assert await scene.store._server.command("ZCARD", dated) == 0
    assert int(await scene.store._server.command("HGET", keys.item(FIRST), "fence")) == fence + 1
    event = (await scene.store.read_events(RENDER, None, 100)).events[-1]
    assert (event.kind.value, event.data["was"], event.data["fence"]) == ("item.cancelled", state, fence + 1)
    assert ("dispatch" in event.data) == (state in {"dispatched", "running"})
    assert await scene.offer() is None


async def test_settled_and_missing_items_are_not_cancelled(scene: Scene) -> None:
    await scene.push(1)
    await scene.store.complete(await scene.running(), result())

    with pytest.raises(Conflict, match="alice/render/1 is done already"):
        await scene.store.cancel(FIRST, "alice")
    with pytest.raises(Rejected, match="no item alice/render/2"):
        await scene.store.cancel(ItemRef(RENDER, 2), "alice")
    assert (await scene.item()).state == ItemState.DONE


async def test_result_that_comes_late_does_not_undo_a_cancel(scene: Scene) -> None:
    await scene.push(1)
    lease = await scene.running()
    await age(scene.store, 121_000)
    await scene.store.tick()
    assert (await scene.item()).state == ItemState.READY
    await scene.store.cancel(FIRST, "alice")

    with pytest.raises(Conflict, match="no longer this vm's"):
        await scene.store.complete(lease, result())
    with pytest.raises(Conflict, match="no longer this vm's"):
        await scene.store.extend(lease, "")
    assert (await scene.item()).state == ItemState.CANCELLED


async def test_cancelled_canary_makes_room_for_the_next(scene: Scene) -> None:
    await scene.push(3)
    await scene.dispatched()
    await scene.dispatched()
    assert await scene.offer() is None

    await scene.store.cancel(FIRST, "alice")

    assert str((await scene.dispatched()).item.ref) == "alice/render/3"


async def test_cancelled_item_is_forgotten_like_any_other(scene: Scene) -> None:
    await scene.set_up(msgspec.structs.replace(SPEC, keep_ms=MINUTE_MS), items=1)
    given = await scene.dispatched()
    await scene.store.cancel(FIRST, "alice")
    await age(scene.store, 2 * MINUTE_MS)
    cleared: list[Forgotten] = []

    async def clear(forgotten: Forgotten) -> None:
        cleared.append(forgotten)

    assert await scene.store.forget(clear) == 1
    assert cleared == [Forgotten(FIRST, (given.dispatch,))]
    assert await scene.counts() == {}
    assert await scene.numbers(ItemState.CANCELLED) == []
    left = await scene.store._server.command("KEYS", "*")
    assert [key for key in left if any(part in key for part in (":item:", ":vm:", ":cancelled:"))] == []


@pytest.mark.parametrize(
    ("state", "had_vm"),
    [("ready", False), ("dispatched", True), ("running", True), ("delayed", False), ("held", False)],
)
async def test_cancel_tells_whether_a_vm_had_the_item_and_again_the_same(
    scene: Scene, state: str, had_vm: bool
) -> None:
    await scene.set_up(msgspec.structs.replace(SPEC, retry=Retry(hold_exit_codes=(2,))), items=1)
    await _reach(scene, ItemState(state))

    cancelled = await scene.store.cancel(FIRST, "alice")

    assert cancelled.had_vm is had_vm
    assert await scene.store.cancel(FIRST, "bob") == cancelled


async def test_item_that_is_ready_again_is_had_by_no_vm(scene: Scene) -> None:
    await scene.push(1)
    await scene.store.fail(await scene.running(), failure(75))
    assert (await scene.item()).state == ItemState.READY

    cancelled = await scene.store.cancel(FIRST, "alice")

    assert (cancelled.had_vm, cancelled.vm is not None) == (False, True)


async def test_cancelled_item_still_says_why_it_had_failed(scene: Scene) -> None:
    await scene.push(1)
    await scene.store.fail(await scene.running(), failure())

    cancelled = await scene.store.cancel(FIRST, "alice")

    assert cancelled.reason is not None
    assert cancelled.reason.sentence == "alice cancelled it; before: the program exited with 3"

"""Ready items of several spec revisions of one stream: none of them keeps the others waiting."""

import msgspec
import pytest

from broker.domain.canary import CANARIES
from broker.domain.errors import Conflict
from broker.store import Store
from broker.wire.names import MachineRef, UserName
from broker.wire.states import ItemState, Verdict
from broker.wire.streams import Needs, StreamSpec
from tests.integration.store.scene import DEFINITION, FACTS, IMAGE, RENDER, ROOM, SPEC, Scene, lease_of, result
from tests.support.stores import age

LARGE = msgspec.structs.replace(SPEC, needs=Needs(vcpus=64))
LARGE_ROOM = msgspec.structs.replace(ROOM, vcpus=64)
OTHER = msgspec.structs.replace(SPEC, run="/opt/app/other")


async def _push(scene: Scene, spec: StreamSpec, items: int) -> None:
    """Push items under a revision that has been proven."""
    await scene.set_up(spec)
    await scene.prove()
    await scene.push(items)


async def _next(scene: Scene) -> int | None:
    given = await scene.offer()
    return None if given is None else given.item.ref.number


async def test_items_of_the_earlier_revision_go_on_when_the_next_one_needs_more(scene: Scene) -> None:
    await _push(scene, SPEC, 2)
    await scene.set_up(LARGE)
    assert [await _next(scene) for _ in range(3)] == [1, 2, None]


async def test_items_of_the_next_revision_go_on_when_the_earlier_one_needs_more(scene: Scene) -> None:
    await _push(scene, LARGE, 1)
    await _push(scene, SPEC, 2)
    assert [await _next(scene) for _ in range(3)] == [2, 3, None]
    large = await scene.offer(room=LARGE_ROOM)
    assert large is not None
    assert (str(large.item.ref), large.size.vcpus) == (f"{RENDER}/1", 64)
    assert await scene.store._server.command("EXISTS", scene.store._keys.ring) == 0


async def test_thousands_of_items_without_room_at_the_head_cost_one_look(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.set_up(LARGE)
    for _ in range(5):
        await scene.push(500)
    await _push(scene, SPEC, 1)
    acts, act = [], scene.store._server.act

    async def counted(arguments: object, *keys: object, **more: str) -> object:
        acts.append(type(arguments).__name__)
        return await act(arguments, *keys, **more)  # type: ignore[arg-type] # whatever it takes

    monkeypatch.setattr(scene.store._server, "act", counted)
    assert await _next(scene) == 2_501
    assert sorted(acts) == ["Dispatch", "Hear", "Look"]


async def test_order_is_that_of_all_items_whatever_their_revision(scene: Scene) -> None:
    await _push(scene, SPEC, 2)
    await _push(scene, OTHER, 2)
    first = await scene.dispatched()
    second = await scene.dispatched()
    assert (await scene.dispatched()).item.revision == 2
    # A given back one goes to the head, the second time to the end, when its pause is over.
    assert (await scene.end(second, Verdict.HOST_ERROR)).state == "ready"
    assert (await scene.end(first, Verdict.HOST_ERROR)).state == "ready"
    again = await scene.dispatched()
    assert str(again.item.ref) == str(first.item.ref)
    assert (await scene.end(again, Verdict.HOST_ERROR)).state == "delayed"
    await scene.push(1)
    await age(scene.store, 120_000)
    await scene.store.tick()
    # The third one's launcher was silent, so it comes back to the head.
    assert [await _next(scene) for _ in range(5)] == [3, 2, 4, 5, 1]


async def test_entry_that_went_stale_in_one_revision_gives_nothing_out_and_hides_nothing(scene: Scene) -> None:
    await _push(scene, SPEC, 1)
    lease = lease_of(await scene.claimed())
    await _push(scene, OTHER, 1)
    await age(scene.store, 121_000)
    await scene.store.tick()
    assert await scene.counts() == {"ready": 2}
    await scene.store.complete(lease, result())
    assert [await _next(scene) for _ in range(2)] == [2, None]


async def test_revision_in_its_canary_period_lets_the_proven_one_by(scene: Scene) -> None:
    await scene.set_up(OTHER, items=CANARIES + 1)
    await scene.set_up(SPEC, items=2)
    await scene.prove()
    assert [await _next(scene) for _ in range(5)] == [1, 2, 4, 5, None]
    waiting, free = [(await scene.store.prospect(RENDER, revision)).canaries_out for revision in (2, 3)]
    assert (waiting, free) == (True, False)


async def test_items_whose_machine_is_shared_no_more_let_others_by(scene: Scene) -> None:
    bob = UserName("bob")
    bobs = MachineRef(bob, "theirs")
    await scene.store.grant_image(bob, IMAGE, 1_000)
    await scene.store.put_machine(bobs, DEFINITION, FACTS)
    await scene.store.share_machine(bobs, RENDER.user)
    await _push(scene, msgspec.structs.replace(SPEC, machine=str(bobs)), 1)
    await _push(scene, SPEC, 1)
    await scene.store.unshare_machine(bobs, RENDER.user)
    assert [await _next(scene) for _ in range(2)] == [2, None]
    assert (await scene.store.prospect(RENDER, 2)).machine is None
    assert (await scene.store.prospect(RENDER, 3)).machine is not None


async def test_machine_stays_while_a_ready_item_of_an_earlier_revision_wants_it(store: Store) -> None:
    scene = await Scene(store).set_up(items=1)
    other = MachineRef(RENDER.user, "other")
    await store.put_machine(other, DEFINITION, FACTS)
    await scene.set_up(msgspec.structs.replace(SPEC, machine="other"), items=1)
    with pytest.raises(Conflict, match="unsettled items"):
        await store.delete_machine(MachineRef(RENDER.user, "deb12"))
    assert await scene.numbers(ItemState.READY) == [1, 2]

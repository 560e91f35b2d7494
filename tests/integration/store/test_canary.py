"""A stream's first vms: few at once, until one of them has shown that its machine comes up."""

import asyncio

import msgspec

from broker.domain.canary import CANARIES
from broker.store import Bell, Ready
from broker.wire.names import StreamRef, UserName
from broker.wire.states import Verdict
from broker.wire.streams import Retry
from tests.integration.store.listening import listening
from tests.integration.store.scene import RENDER, SPEC, Scene
from tests.support.stores import age
from tests.support.waiting import until


async def _given(scene: Scene, offers: int = 6) -> int:
    """Make offers, all at once; return how many were given an item."""
    return sum(given is not None for given in await asyncio.gather(*(scene.offer() for _ in range(offers))))


async def test_two_vms_go_first_and_the_rest_when_one_has_claimed(scene: Scene) -> None:
    await scene.push(10)
    first = await scene.prepared()
    assert await _given(scene) == CANARIES - 1
    assert await scene.offer() is None
    await scene.claim(first)
    assert await _given(scene, 10) == 10 - CANARIES


async def test_canary_that_ended_without_a_claim_makes_room_for_the_next(scene: Scene) -> None:
    await scene.push(5)
    canaries = [await scene.dispatched() for _ in range(CANARIES)]
    await scene.end(canaries[0], Verdict.NEVER_CLAIMED)
    assert await _given(scene) == 1
    await age(scene.store, 16_000)  # the others' launchers said nothing: their first deadline has passed
    await scene.store.tick()
    assert await _given(scene) == CANARIES


async def test_stream_whose_machine_never_comes_up_ends_by_the_bound_on_boots(scene: Scene) -> None:
    await scene.set_up(msgspec.structs.replace(SPEC, retry=Retry(boots=2)), items=4)
    for _ in range(8):
        await scene.end(await scene.dispatched(), Verdict.NEVER_CLAIMED)
        await age(scene.store, 600_000)
        await scene.store.tick()
    assert await scene.counts() == {"held": 4}


async def test_other_streams_and_other_users_are_not_kept_waiting(scene: Scene) -> None:
    second, bobs = StreamRef(RENDER.user, "second"), StreamRef(UserName("bob"), "mc")
    await scene.push(10)
    await scene.set_up(items=10, ref=second)
    await scene.set_up(items=10, ref=bobs)
    assert await _given(scene, 12) == 3 * CANARIES
    assert await scene.counts(bobs) == {"ready": 10 - CANARIES, "dispatched": CANARIES}


async def test_next_revision_of_the_machine_is_tried_anew(scene: Scene) -> None:
    await scene.push(10)
    await scene.claimed()
    await scene.set_machine("<domain type='kvm'><name>other</name></domain>")
    assert await _given(scene) == CANARIES


async def test_next_revision_of_the_spec_is_tried_anew_and_items_of_the_first_go_on(scene: Scene) -> None:
    await scene.push(5)
    await scene.claimed()
    await scene.set_up(msgspec.structs.replace(SPEC, run="/opt/app/other"), items=5)
    assert await _given(scene, 8) == 4 + CANARIES


async def test_claim_of_an_older_machine_does_not_prove_the_new_one(scene: Scene) -> None:
    await scene.push(10)
    old = await scene.prepared()
    await scene.set_machine("<domain type='kvm'><name>other</name></domain>")
    await scene.claim(old)
    assert await _given(scene) == CANARIES


async def test_claim_and_every_end_of_a_canary_ring_for_those_who_wait(scene: Scene) -> None:
    heard: list[Bell] = []
    ready = Ready(RENDER)

    async def rings() -> bool:
        await scene.push(1)
        return ready in heard

    async def rang() -> bool:
        return ready in heard

    async with listening(scene.store, heard):
        await until(rings, "the first bell")
        await scene.push(3)
        claiming, ending = await scene.prepared(), await scene.prepared()
        # The second time in a row its item is delayed and none becomes ready, and yet others may go on.
        states = []
        for _ in range(2):
            heard.clear()
            states.append((await scene.end(ending, Verdict.HOST_ERROR)).state)
            await until(rang, f"a bell at the end that leads to {states[-1]}")
            ending = await scene.prepared()
        assert states == ["ready", "delayed"]
        heard.clear()
        await scene.claim(claiming)
        await until(rang, "a bell at the claim")


async def test_claim_of_an_older_machine_leaves_the_canaries_of_the_new_one_out(scene: Scene) -> None:
    await scene.push(10)
    old = await scene.prepared()
    await scene.set_machine("<domain type='kvm'><name>other</name></domain>")
    assert await _given(scene) == CANARIES
    await scene.claim(old)
    assert await _given(scene) == 0

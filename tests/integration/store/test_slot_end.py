"""Items and the end of the slot that their launcher lives in; and launchers that say that they stop."""

import msgspec
import pytest

from broker.wire.dispatches import Room
from broker.wire.leases import FailRequest
from broker.wire.names import ItemRef
from broker.wire.states import FailureCode, Instruction, Phase, Verdict
from broker.wire.streams import Limits
from tests.integration.store.scene import RENDER, ROOM, SPEC, Scene, failure, lease_of, result
from tests.support.stores import age

MINUTE_MS = 60_000
SHORT = msgspec.structs.replace(SPEC, limits=Limits(boot_ms=MINUTE_MS, run_ms=4 * MINUTE_MS))
SLOT = msgspec.structs.replace(ROOM, time_left_ms=6 * MINUTE_MS)
GRACE_MS = 60_000


@pytest.fixture
async def short(scene: Scene) -> Scene:
    """A stream whose vms may boot for a minute and run for four."""
    return await scene.set_up(SHORT, items=1)


async def test_item_goes_only_where_it_can_end_in_time(short: Scene) -> None:
    def room(left_ms: int) -> Room:
        return msgspec.structs.replace(ROOM, time_left_ms=left_ms)

    assert await short.offer(room(5 * MINUTE_MS - 1)) is None
    assert await short.offer(room(5 * MINUTE_MS)) is not None


async def test_guest_is_told_how_long_it_may_run_and_no_extend_goes_beyond(short: Scene) -> None:
    given = await short.offer(SLOT)
    assert given is not None
    await short.store.vm_event(given.dispatch, short.launcher, Phase.PREPARING, {})
    # The image took long to come: of six minutes of the slot three are left when the vm claims.
    await age(short.store, 3 * MINUTE_MS)
    await short.store.vm_event(given.dispatch, short.launcher, Phase.BOOTING, {})

    claimed, again = await short.claim(given), await short.claim(given)

    assert 2.9 * MINUTE_MS < claimed.run_ms <= 3 * MINUTE_MS
    assert again.run_ms == claimed.run_ms
    await age(short.store, int(2.5 * MINUTE_MS))
    extended = await short.store.extend(lease_of(claimed), "")
    assert 0 < extended.deadline_in_ms <= MINUTE_MS // 2 + GRACE_MS, "the launcher is left some time to stop its vms"


async def test_guest_that_claims_in_time_may_run_as_long_as_its_stream_says(short: Scene) -> None:
    given = await short.offer(SLOT)
    assert given is not None
    assert (await short.claim(given)).run_ms == 4 * MINUTE_MS


@pytest.mark.parametrize("is_told_by_guest", [True, False], ids=["by its guest", "by the clock"])
async def test_run_that_the_slots_end_cut_short_costs_no_attempt(short: Scene, is_told_by_guest: bool) -> None:
    given = await short.offer(SLOT)
    assert given is not None
    await short.store.vm_event(given.dispatch, short.launcher, Phase.PREPARING, {})
    await age(short.store, 3 * MINUTE_MS)
    await short.store.vm_event(given.dispatch, short.launcher, Phase.BOOTING, {})
    lease = lease_of(await short.claim(given))
    await age(short.store, MINUTE_MS + MINUTE_MS // 2)
    await short.store.extend(lease, "")
    await age(short.store, MINUTE_MS + MINUTE_MS // 2)
    await short.store.extend(lease, "")

    if is_told_by_guest:
        timeout = FailRequest(code=FailureCode.RUN_TIMEOUT, sentence="it ran too long")
        assert (await short.store.fail(lease, timeout)).state == "ready"
    else:
        await age(short.store, GRACE_MS)
        await short.hear()
        await short.store.tick()

    item = await short.item()
    assert (item.state, item.attempts) == ("ready", 0)
    assert item.reason is not None
    assert (item.reason.code, item.reason.sentence) == ("slot_ended", "the slot on node1 ended before it did")
    ended = await short.end(given, Verdict.STOPPED_EARLY)
    assert ended.verdict == Verdict.DRAINED


async def test_guest_of_a_launcher_that_stops_is_told_to_drain_and_may_still_settle(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.prepared()
    lease = lease_of(await scene.claim(given))
    assert (await scene.store.extend(lease, "")).instruction == Instruction.CONTINUE

    told = await scene.store.extend_dispatch(given.dispatch, scene.launcher, stops_in_ms=10**9)
    later = await scene.store.extend_dispatch(given.dispatch, scene.launcher)

    assert (told.instruction, later.instruction) == (Instruction.CONTINUE, Instruction.CONTINUE)
    drained = await scene.store.extend(lease, "")
    assert drained.instruction == Instruction.DRAIN
    assert drained.deadline_in_ms > 0
    stops_ms = int(await scene.store._server.command("HGET", scene.store._keys.vm(given.dispatch), "stops_ms"))
    assert stops_ms - await scene.store._now_ms() <= 3_600_000
    assert (await scene.store.complete(lease, result())).state == "done"


async def test_item_given_back_at_a_drain_is_run_again_without_one(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.prepared()
    lease = lease_of(await scene.claim(given))
    await scene.store.extend_dispatch(given.dispatch, scene.launcher, stops_in_ms=0)
    assert (await scene.store.fail(lease, failure(75))).state == "ready"
    assert (await scene.end(given, Verdict.DRAINED)).verdict == Verdict.DRAINED

    again = await scene.running()

    assert (await scene.store.extend(again, "")).instruction == Instruction.CONTINUE
    assert (await scene.item()).attempts == 0


async def test_claim_made_at_an_earlier_broker_may_be_repeated(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.prepared()
    claimed = await scene.claim(given)
    item = scene.store._keys.item(ItemRef(RENDER, 1))
    await scene.store._server.command("HDEL", item, "may_run", "run_bound")

    again = await scene.claim(given)

    assert (again.fence, again.run_ms) == (claimed.fence, SPEC.limits.run_ms)


async def test_lease_lasts_as_long_as_the_vms_of_a_slot_may_take_to_stop(short: Scene) -> None:
    given = await short.offer(msgspec.structs.replace(SLOT, drain_ms=10 * MINUTE_MS))
    assert given is not None
    await short.store.vm_event(given.dispatch, short.launcher, Phase.PREPARING, {})
    await age(short.store, 5 * MINUTE_MS)
    await short.store.vm_event(given.dispatch, short.launcher, Phase.BOOTING, {})
    claimed = await short.claim(given)
    lease = lease_of(claimed)
    assert 0.9 * MINUTE_MS < claimed.run_ms <= MINUTE_MS
    assert (await short.store.leased(lease)).run_ms == claimed.run_ms

    # A minute past the slot's end and a grace; the stream's run limit holds all the same.
    left_ms = 0
    for _ in range(3):
        await age(short.store, MINUTE_MS)
        await short.store.extend_dispatch(given.dispatch, short.launcher, stops_in_ms=0)
        left_ms = (await short.store.extend(lease, "")).deadline_in_ms
        await short.store.tick()

    assert 0 < left_ms <= MINUTE_MS
    assert (await short.store.complete(lease, result())).state == "done"

import asyncio
from collections import Counter

import msgspec
import pytest

from broker.store import Store
from broker.wire.events import EventType
from broker.wire.states import ItemState, Phase
from broker.wire.streams import Limits
from tests.integration.store.scene import RENDER, SPEC, Scene, failure, lease_of, result
from tests.support.stores import StoreServer, age


async def _reason(scene: Scene) -> str:
    item = await scene.item()
    assert item.reason is not None
    return item.reason.code


async def test_nothing_due_moves_nothing(scene: Scene) -> None:
    await scene.push(1)
    await scene.prepared()
    assert await scene.store.tick() == 0


async def test_lost_dispatch_answer_costs_seconds(scene: Scene) -> None:
    await scene.push(1)
    await scene.dispatched()
    await age(scene.store, 16_000)
    assert await scene.store.tick() == 1
    assert (await scene.item()).state == ItemState.READY
    assert await _reason(scene) == "launcher_silent"


async def test_launcher_silent_before_the_claim_loses_the_item_after_its_grace(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.prepared()
    await age(scene.store, 50_000)
    await scene.store.extend_dispatch(given.dispatch, scene.launcher)
    await age(scene.store, 50_000)
    assert await scene.store.tick() == 0
    await age(scene.store, 11_000)
    assert await scene.store.tick() == 1
    assert await _reason(scene) == "launcher_silent"


async def test_extends_do_not_carry_a_boot_past_its_deadline(scene: Scene) -> None:
    await scene.set_up(msgspec.structs.replace(SPEC, limits=Limits(boot_ms=100_000)), items=1)
    given = await scene.prepared()
    await age(scene.store, 50_000)
    await scene.store.vm_event(given.dispatch, scene.launcher, Phase.BOOTING, {})
    for _ in range(4):
        await age(scene.store, 39_000)
        await scene.store.extend_dispatch(given.dispatch, scene.launcher)
    assert await scene.store.tick() == 0
    await age(scene.store, 5_000)
    assert await scene.store.tick() == 1
    assert await _reason(scene) == "boot_expired"
    assert (await scene.item()).attempts == 0


async def test_vm_unheard_of_while_its_launcher_is_there_fails_with_an_attempt(scene: Scene) -> None:
    await scene.push(1)
    await scene.running()
    await age(scene.store, 121_000)
    await scene.hear()
    assert await scene.store.tick() == 1
    item = await scene.item()
    assert (item.state, item.attempts) == (ItemState.DELAYED, 1)
    assert await _reason(scene) == "lease_expired"


async def test_vm_gone_with_its_launcher_is_given_back(scene: Scene) -> None:
    await scene.push(1)
    await scene.running()
    await age(scene.store, 121_000)
    assert await scene.store.tick() == 1
    item = await scene.item()
    assert (item.state, item.attempts) == (ItemState.READY, 0)
    assert await _reason(scene) == "launcher_silent"


async def test_run_limit_ends_an_item_however_often_it_extends(scene: Scene) -> None:
    await scene.set_up(msgspec.structs.replace(SPEC, limits=Limits(run_ms=60_000)), items=1)
    lease = await scene.running()
    await age(scene.store, 61_000)
    await scene.hear()
    assert (await scene.store.extend(lease, "")).deadline_in_ms == 0
    assert await scene.store.tick() == 1
    item = await scene.item()
    assert item.reason is not None
    assert (item.reason.code, item.attempts) == ("run_timeout", 1)
    assert item.reason.sentence == "it ran longer than the stream's limit of 60 s"


async def test_delayed_item_becomes_ready_in_its_time(scene: Scene) -> None:
    await scene.push(1)
    await scene.store.fail(await scene.running(), failure())
    assert await scene.store.tick() == 0
    await age(scene.store, 31_000)
    assert await scene.store.tick() == 1
    item = await scene.item()
    assert (item.state, item.not_before) == (ItemState.READY, None)
    assert (await scene.events())[-1] == "item.ready"
    await scene.dispatched()
    assert (await scene.item()).attempts == 1


@pytest.mark.parametrize("away_s", [60, 3_600])
async def test_absence_of_broker_or_store_throws_no_running_work_away(scene: Scene, away_s: int) -> None:
    await scene.push(1)
    lease = await scene.running()
    await scene.store.tick()
    await _be_away(scene, away_s * 1_000)
    assert await scene.store.tick() == 0
    await age(scene.store, min(away_s, 120) * 1_000 - 5_000)
    assert await scene.store.tick() == 0
    assert (await scene.store.extend(lease, "")).deadline_in_ms == 120_000


async def test_after_an_absence_a_launcher_has_a_whole_grace_to_be_heard(scene: Scene) -> None:
    """Its vm died meanwhile: that is the item's fault or not, but not yet the launcher's absence."""
    await scene.push(1)
    await scene.running()
    await scene.store.tick()
    await _be_away(scene, 50_000)
    assert await scene.store.tick() == 0
    await age(scene.store, 55_000)
    assert await scene.store.tick() == 0
    await age(scene.store, 20_000)
    assert await scene.store.tick() == 1
    assert await _reason(scene) == "launcher_silent"


async def test_an_outage_of_ten_minutes_leaves_every_item_where_it_was_and_each_goes_on_from_there(
    scene: Scene,
) -> None:
    await scene.set_up(items=5)
    await scene.prove()
    await scene.store.fail(await scene.running(), failure())
    lease = await scene.running()
    booting = await scene.prepared()
    await scene.dispatched()
    await scene.store.tick()
    assert await scene.counts() == {"delayed": 1, "running": 1, "dispatched": 2, "ready": 1}

    await _be_away(scene, 600_000)

    assert await scene.store.tick() == 1, "the delayed item is ready by now"
    await age(scene.store, 100_000)
    assert await scene.store.tick() == 0
    assert await scene.counts() == {"running": 1, "dispatched": 2, "ready": 2}
    assert (await scene.store.extend(lease, "")).deadline_in_ms == 120_000
    assert (await scene.store.complete(lease, result())).state == ItemState.DONE
    late = lease_of(await scene.claim(booting))
    assert (await scene.store.complete(late, result())).state == ItemState.DONE
    await age(scene.store, 21_000)
    await scene.hear()
    assert await scene.store.tick() == 1, "of the fourth item nobody has heard since it was given out"
    assert await scene.counts() == {"ready": 3, "done": 2}
    assert Counter(await scene.events())["item.given_back"] == 1


async def test_a_clock_that_is_set_back_ends_no_lease_and_counts_no_launcher_as_gone(scene: Scene) -> None:
    await scene.push(1)
    lease = await scene.running()
    await scene.store.tick()
    await _be_away(scene, -3_600_000)
    assert await scene.store.tick() == 0
    assert (await scene.store.extend(lease, "")).deadline_in_ms == 120_000
    await age(scene.store, 100_000)
    assert await scene.store.tick() == 0
    assert (await scene.store.complete(lease, result())).state == ItemState.DONE


async def test_two_clocks_that_tick_at_once_move_nothing_twice(scene: Scene, store_server: StoreServer) -> None:
    await scene.set_up(items=120)
    await scene.prove()
    for _ in range(40):
        await scene.store.fail(await scene.running(), failure())
    for _ in range(40):
        await scene.dispatched()
    await age(scene.store, 31_000)
    other = await Store.connect(store_server.url)

    moved = 0
    while at_once := sum(await asyncio.gather(scene.store.tick(), other.tick())):
        moved += at_once
    await other.close()
    assert moved == 80
    assert await scene.counts() == {"ready": 120}
    events = (await scene.store.read_events(RENDER, None, 1_000)).events
    for kind in (EventType.ITEM_READY, EventType.ITEM_GIVEN_BACK):
        assert sorted(Counter(event.subject for event in events if event.kind is kind).values()) == [1] * 40


async def _be_away(scene: Scene, ms: int) -> None:
    await age(scene.store, ms)
    await scene.store._server.command("HINCRBY", scene.store._keys.clock, "ticked_ms", -ms)

"""Fair shares are of what vms take, in vcpu-seconds, not of how many items are given."""

import asyncio
from collections import defaultdict
from datetime import datetime

import msgspec
import pytest

from broker.domain.errors import Conflict
from broker.store import Dispatched, Store
from broker.wire.events import EventType
from broker.wire.names import StreamRef, UserName
from broker.wire.states import Verdict
from broker.wire.streams import Needs
from tests.integration.store.scene import RENDER, ROOM, SPEC, Scene, lease_of, result

RUN_S = {"ann": 0.02, "bob": 0.06, "cat": 0.15, "dan": 0.3}
"""What an item of each user takes."""
VCPUS = {"ann": 1, "bob": 2, "cat": 1, "dan": 2}
SLOTS = 6
LEARNING_S = 2.0
"""Until a stream's first vms are done, each is charged as if it took a minute."""
FOR_S = 6.0


def jain(shares: list[float]) -> float:
    """Return Jain's index: 1 when all are equal, 1/n when one has all. Source: R. Jain et al., DEC-TR-301, 1984."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


class Grid:
    """Slots of two vcpus that take what they are given until the time is over."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def run(self, for_s: float) -> None:
        ends_s = asyncio.get_running_loop().time() + for_s
        async with asyncio.TaskGroup() as slots:
            for _ in range(SLOTS):
                slots.create_task(self._slot(ends_s))

    async def _slot(self, ends_s: float) -> None:
        clock = asyncio.get_running_loop().time
        while clock() < ends_s:
            given = await self._scene.offer(msgspec.structs.replace(ROOM, vcpus=2))
            assert given is not None, "nobody ran out of items"
            await self._run(given)

    async def _run(self, given: Dispatched) -> None:
        claimed = await self._scene.claim(given)
        await asyncio.sleep(RUN_S[given.item.ref.stream.user])
        await self._scene.store.complete(lease_of(claimed), result())


async def shares_of(scene: Scene) -> dict[str, float]:
    """Return the vcpu-seconds that each user's vms take once it is known what they take."""
    await Grid(scene).run(LEARNING_S)
    before = await took(scene.store)
    await Grid(scene).run(FOR_S)
    return {user: after - before[user] for user, after in (await took(scene.store)).items()}


async def took(store: Store) -> dict[str, float]:
    """Return the vcpu-seconds of each user's vms so far by the store's clock, as their streams' events tell."""
    total: dict[str, float] = defaultdict(float)
    for user in RUN_S:
        begun: dict[object, datetime] = {}
        after: str | None = None
        while events := (await store.read_events(StreamRef(UserName(user), "render"), after, 1_000)).events:
            for event in events:
                if event.kind is EventType.ITEM_DISPATCHED:
                    begun[event.data["dispatch"]] = datetime.fromisoformat(event.time)
                elif event.kind is EventType.ITEM_COMPLETED:
                    ran = datetime.fromisoformat(event.time) - begun[event.data["dispatch"]]
                    total[user] += VCPUS[user] * ran.total_seconds()
            after = events[-1].id
    return total


async def _users(store: Store, items: int) -> Scene:
    scene = Scene(store)
    for user, vcpus in VCPUS.items():
        ref = StreamRef(UserName(user), "render")
        await scene.set_up(msgspec.structs.replace(SPEC, needs=Needs(vcpus=vcpus)), items=items, ref=ref)
        await scene.prove(ref)
    return scene


@pytest.mark.parametrize("store_server", ["valkey"], indirect=True)
async def test_users_of_very_different_run_times_get_equal_vcpu_seconds(store: Store) -> None:
    shares = await shares_of(await _users(store, 500))
    assert set(shares) == set(RUN_S)
    assert jain(list(shares.values())) >= 0.95, shares


@pytest.mark.parametrize("store_server", ["valkey"], indirect=True)
async def test_a_user_of_twice_the_weight_gets_twice_as_much(store: Store) -> None:
    scene = await _users(store, 500)
    account = store._keys.of_stream(StreamRef(UserName("cat"), "render")).account
    await store._server.command("HSET", account, "weight", 2)
    shares = await shares_of(scene)
    assert jain([share / (2 if user == "cat" else 1) for user, share in shares.items()]) >= 0.95, shares


async def _passes(store: Store) -> tuple[float, float]:
    """Return alice's virtual time in the ring, and her stream's in her own."""
    keys = store._keys
    times = await store._server.commands(
        [("ZSCORE", keys.ring, "alice"), ("ZSCORE", keys.user_ring(RENDER.user), "render")]
    )
    return float(times[0]), float(times[1])


async def test_what_was_charged_at_the_dispatch_is_made_good_by_what_the_vm_took(scene: Scene) -> None:
    await scene.push(5)
    await scene.prove()
    given = await scene.dispatched()
    assert await _passes(scene.store) == (60_000.0, 60_000.0), "a minute for a vm of one vcpu, where nothing is known"
    keys = scene.store._keys
    for key in (keys.item(given.item.ref), keys.vm(given.dispatch)):
        await scene.store._server.command("HINCRBY", key, "dispatched_ms", -400_000)

    await scene.store.complete(lease_of(await scene.claim(given)), result())

    assert all(400_000 <= each < 402_000 for each in await _passes(scene.store))


@pytest.mark.parametrize(("verdict", "is_refunded"), [(Verdict.HOST_ERROR, True), (Verdict.NEVER_CLAIMED, False)])
async def test_nobody_is_charged_for_a_nodes_fault(scene: Scene, verdict: Verdict, is_refunded: bool) -> None:
    await scene.push(5)
    given = await scene.dispatched()
    keys = scene.store._keys
    await scene.store._server.command("HINCRBY", keys.item(given.item.ref), "dispatched_ms", -90_000)

    await scene.end(given, verdict)

    passes = await _passes(scene.store)
    assert passes == (0.0, 0.0) if is_refunded else all(90_000 <= each < 92_000 for each in passes)


async def test_what_is_made_good_of_a_stream_without_ready_items_counts_when_it_comes_back(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.dispatched()
    assert await scene.store._server.command("ZCARD", scene.store._keys.ring) == 0
    await scene.store.complete(lease_of(await scene.claim(given)), result())
    await scene.push(1)
    assert all(0 <= each < 2_000 for each in await _passes(scene.store))


async def test_a_cancelled_vm_is_charged_for_what_it_took(scene: Scene) -> None:
    await scene.push(2)
    given = await scene.dispatched()
    await scene.store.cancel(given.item.ref, "alice")
    assert all(0 <= each < 2_000 for each in await _passes(scene.store))
    with pytest.raises(Conflict):
        await scene.claim(given)

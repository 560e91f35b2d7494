"""A store in trouble refuses whole acts, and goes on from where it was. Each kind of server is troubled for real."""

import resource
from collections.abc import AsyncIterator, Iterator

import pytest
from msgspec.structs import replace

from broker.domain.errors import Unavailable
from broker.store import Lease, Store
from broker.wire.names import ItemRef
from broker.wire.problems import ProblemCode
from broker.wire.states import ItemState, Phase, Verdict
from tests.integration.store.scene import RENDER, SPEC, Scene, failure, lease_of, result
from tests.support.stores import StoreProcess, age, connected, store_process
from tests.support.waiting import until


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[StoreProcess]:
    """A server of this test's own, which it may spoil."""
    with store_process(request.param) as process:
        yield process


@pytest.fixture
async def store(server: StoreProcess) -> AsyncIterator[Store]:
    async with connected(server.url) as store:
        yield store


async def _running(scene: Scene, number: int) -> list[Lease]:
    """Let so many items run, one after the other."""
    await scene.prove()
    return [await scene.running() for _ in range(number)]


async def _answers(store: Store, said: list[str] | None = None) -> bool:
    """Tell whether the store answers; if not, note what it says."""
    try:
        await store.ping()
    except Unavailable as error:
        if said is not None:
            said.append(error.detail)
        return False
    return True


async def _refusal(store: Store, lease: Lease) -> Unavailable:
    """Return how every act on a running item is refused, and check that none of them did a thing."""
    refusals = []
    for act in (store.extend(lease, ""), store.complete(lease, result()), store.fail(lease, failure()), store.tick()):
        with pytest.raises(Unavailable) as caught:
            await act
        refusals.append(caught.value)
    assert len({(each.code, each.detail) for each in refusals}) == 1
    item = await store.get_item(lease.item)
    assert item is not None
    assert (item.state, item.attempts, item.outputs) == (ItemState.RUNNING, 0, [])
    return refusals[0]


async def test_store_that_reads_its_data_is_away_until_it_has(server: StoreProcess, store: Store) -> None:
    scene = await Scene(store).set_up()
    for _ in range(8):
        await scene.push(500)
    server.stop()
    # It serves its clients after each 1,024 commands that it read.
    server.start("--key-load-delay", "200")
    said: list[str] = []
    await until(lambda: _answers(store, said), "the store has read its data")
    assert "the store is reading its data; try again" in said
    assert await scene.counts() == {"ready": 4_000}
    assert (await scene.push(1)).first == 4_001


async def test_replica_takes_no_act_and_as_a_primary_again_all_of_them(store: Store) -> None:
    scene = await Scene(store).set_up(items=1)
    [lease] = await _running(scene, 1)
    await store._server.command("REPLICAOF", "127.0.0.1", "1")
    refusal = await _refusal(store, lease)
    assert (refusal.code, refusal.detail) == (
        ProblemCode.STORE_UNAVAILABLE,
        "the store is a replica that takes no writes; try again",
    )
    with pytest.raises(Unavailable, match="takes no writes"):
        await scene.push(1)
    await store._server.command("REPLICAOF", "NO", "ONE")
    assert (await store.complete(lease, result())).state == ItemState.DONE
    assert await scene.counts() == {"done": 1}


async def test_store_without_memory_takes_nothing_in_and_lets_go_what_it_has(store: Store) -> None:
    scene = await Scene(store).set_up(items=6)
    done, failed, given_back, cancelled = await _running(scene, 4)
    dispatched = await scene.prepared()
    await store._server.command("CONFIG", "SET", "maxmemory", "1")
    for taking_in in (scene.push(1), scene.offer(), store.put_stream(RENDER, replace(SPEC, run="/opt/other"))):
        with pytest.raises(Unavailable, match="memory is full; settle or remove items") as caught:
            await taking_in
        assert caught.value.code == ProblemCode.STORE_UNAVAILABLE
    assert (await store.complete(done, result())).state == ItemState.DONE
    assert (await store.fail(failed, failure())).state == ItemState.DELAYED
    assert (await store.fail(given_back, failure(75))).state == ItemState.READY
    assert (await store.cancel(ItemRef(RENDER, cancelled.item.number), "alice")).state == ItemState.CANCELLED
    assert (await scene.end(dispatched, Verdict.HOST_ERROR)).state == ItemState.READY
    assert await scene.counts() == {"done": 1, "delayed": 1, "ready": 3, "cancelled": 1}


async def test_clock_of_a_store_without_memory_takes_nothing_from_who_shows_to_be_there(store: Store) -> None:
    """Were the clock served and those who extend not, whenever memory comes and goes, live leases would end."""
    scene = await Scene(store).set_up(items=4)
    lasting, silent = await _running(scene, 2)
    booting, claiming = await scene.dispatched(), await scene.prepared()
    await store._server.command("CONFIG", "SET", "maxmemory", "1")
    await store.vm_event(booting.dispatch, scene.launcher, Phase.PREPARING, {})
    late = lease_of(await scene.claim(claiming))
    for _ in range(2):
        await _let_pass(store, 55_000)
        for lease in (lasting, late):
            assert (await store.extend(lease, "")).deadline_in_ms == 120_000
        await store.extend_dispatch(booting.dispatch, scene.launcher)
        assert await store.tick() == 0
    await _let_pass(store, 11_000)
    assert await store.tick() == 1, "the silent one"
    assert (await scene.item(silent.item.number)).state == ItemState.DELAYED
    assert await scene.counts() == {"running": 2, "dispatched": 1, "delayed": 1}


async def _let_pass(store: Store, ms: int) -> None:
    """Let time pass in a store without memory, which the test itself needs some of."""
    await store._server.command("CONFIG", "SET", "maxmemory", "0")
    await age(store, ms)
    await store._server.command("CONFIG", "SET", "maxmemory", "1")


async def test_store_that_cannot_write_takes_no_act_until_there_is_space_again(
    server: StoreProcess, store: Store
) -> None:
    """One that syncs each second goes on without its disk, and refuses; one that syncs always ends (test_embedded)."""
    scene = await Scene(store).set_up(items=1)
    [lease] = await _running(scene, 1)
    await store._server.command("CONFIG", "SET", "appendfsync", "everysec")
    [log] = (server.folder / "appendonlydir").glob("*.incr.aof")
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))
    pushed, refusal = await scene.push_until_refused(1)
    assert refusal.detail == "the store cannot write to its disk; free some space"
    assert refusal.code == ProblemCode.STORE_DISK_FULL
    assert (await _refusal(store, lease)).code == ProblemCode.STORE_DISK_FULL

    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    async def is_settled() -> bool:
        try:
            return (await store.complete(lease, result())).state == ItemState.DONE
        except Unavailable:
            return False

    await until(is_settled, "the store writes again")
    server.stop()
    server.start()
    await until(lambda: _answers(store), "the store has read its data")
    assert await scene.counts() == ({"ready": pushed} if pushed else {}) | {"done": 1}
    assert (await scene.item()).outputs == result().outputs

"""What is ready, as whoever submits launchers needs to know it."""

from typing import Any

import msgspec
import pytest

from broker.domain.canary import CANARIES
from broker.store import demands as looking
from broker.wire.jobs import Demand
from broker.wire.machines import Disk
from broker.wire.names import ItemRef, MachineRef, StreamRef, UserName
from broker.wire.states import Accelerator
from broker.wire.streams import Limits, Needs
from tests.integration.store.scene import DEFINITION, FACTS, IMAGE, RENDER, SPEC, Scene

BOBS = StreamRef(UserName("bob"), "mc")
SECOND = StreamRef(RENDER.user, "second")


async def demands(scene: Scene, serves: frozenset[str] | None = None) -> list[Demand]:
    page = await scene.store.demand(lambda user: serves is None or user in serves)
    assert not page.is_cut
    return page.demands


async def ready(scene: Scene) -> dict[str, int]:
    found: dict[str, int] = {}
    for demand in await demands(scene):
        found[demand.user] = found.get(demand.user, 0) + demand.ready
    return found


async def test_items_of_streams_that_need_the_same_are_told_together(scene: Scene) -> None:
    await scene.push(3)
    await scene.set_up(items=4, ref=SECOND)
    for ref in (RENDER, SECOND):
        await scene.prove(ref)
    [demand] = await demands(scene)
    assert demand == Demand(
        user="alice", ready=7, vcpus=1, memory_mib=1_024, disk_mib=SPEC.needs.disk_mib, run_ms=SPEC.limits.run_ms
    )


async def test_what_a_stream_needs_besides_its_machine_tells_items_apart(scene: Scene) -> None:
    await scene.push(3)
    await scene.prove()
    needs = Needs(vcpus="slot", memory_mib=8_192, accelerator=Accelerator.KVM)
    limits = Limits(boot_ms=60_000, run_ms=120_000)
    await scene.set_up(msgspec.structs.replace(SPEC, needs=needs, limits=limits), items=2, ref=SECOND)
    await scene.prove(SECOND)
    [large] = [demand for demand in await demands(scene) if demand.memory_mib == 8_192]
    assert (large.ready, large.vcpus, large.accelerator) == (2, 1, Accelerator.KVM)
    assert (large.boot_ms, large.run_ms) == (60_000, 120_000)


async def test_users_whom_the_token_does_not_cover_are_left_out(scene: Scene) -> None:
    await scene.push(3)
    await scene.set_up(items=2, ref=BOBS)
    assert {demand.user for demand in await demands(scene, frozenset({"bob"}))} == {"bob"}
    assert {demand.user for demand in await demands(scene)} == {"alice", "bob"}


async def test_who_was_served_least_lately_comes_first(scene: Scene) -> None:
    await scene.push(3)
    await scene.set_up(items=3, ref=BOBS)
    served = await scene.dispatched()
    order = [demand.user for demand in await demands(scene)]
    assert order[-1] == str(served.item.ref).partition("/")[0]


async def test_a_stream_that_has_to_prove_itself_wants_no_more_than_its_canaries(scene: Scene) -> None:
    await scene.push(10)
    assert await ready(scene) == {"alice": CANARIES}
    first = await scene.prepared()
    assert await ready(scene) == {"alice": CANARIES - 1}
    await scene.dispatched()
    assert await ready(scene) == {}
    await scene.claim(first)
    assert await ready(scene) == {"alice": 8}


async def test_nothing_is_wanted_for_items_that_wait_for_no_launcher(scene: Scene) -> None:
    await scene.prove()
    assert await ready(scene) == {}
    await scene.push(2)
    await scene.store.cancel(ItemRef(RENDER, 1), "alice")
    assert await ready(scene) == {"alice": 1}


async def test_images_that_anybody_may_download_are_named_and_the_brokers_own_are_not(scene: Scene) -> None:
    public = f"sha256:{'1' * 64}"
    disks = {
        "vda": Disk(digest=IMAGE, size_bytes=1_000),
        "vdb": Disk(digest=public, size_bytes=1_000, url="https://images.example.org/data.qcow2"),
    }
    definition = msgspec.structs.replace(DEFINITION, disks=disks)
    await scene.store.put_machine(MachineRef(RENDER.user, "deb12"), definition, FACTS)
    await scene.push(1)
    [demand] = await demands(scene)
    assert demand.images == (public,)


async def test_a_stream_is_told_to_have_no_more_than_it_has_when_its_lists_are_stale(scene: Scene) -> None:
    await scene.push(3)
    await scene.prove()
    await scene.set_up(msgspec.structs.replace(SPEC, needs=Needs(memory_mib=2_048)), items=3)
    await scene.prove()
    assert sum((await ready(scene)).values()) == 6
    for number in (1, 2, 4, 5):
        await scene.store.cancel(ItemRef(RENDER, number), "alice")
    assert await scene.counts() == {"ready": 2, "cancelled": 4}
    assert await ready(scene) == {"alice": 2}


async def test_items_whose_machine_is_gone_or_not_shared_any_more_are_left_out(scene: Scene) -> None:
    shared = MachineRef(RENDER.user, "deb12")
    await scene.store.share_machine(shared, BOBS.user)
    await scene.store.put_stream(BOBS, msgspec.structs.replace(SPEC, machine="alice/deb12"))
    await scene.push(1, BOBS)
    assert await ready(scene) == {"bob": 1}
    await scene.store.unshare_machine(shared, BOBS.user)
    await scene.push(1)
    assert await ready(scene) == {"alice": 1}
    await scene.store._server.command("HDEL", scene.store._keys.machine(shared), "latest")
    assert await ready(scene) == {}


async def test_a_new_machine_revision_has_to_prove_itself_again(scene: Scene) -> None:
    await scene.push(10)
    await scene.prove()
    assert await ready(scene) == {"alice": 10}
    await scene.set_machine("<domain type='qemu'/>")
    assert await ready(scene) == {"alice": CANARIES}


async def test_many_streams_cost_as_few_round_trips_as_one(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.push(1)
    alone = await _round_trips(scene, monkeypatch)
    for number in range(60):
        await scene.set_up(items=1, ref=StreamRef(RENDER.user, f"s{number}"))
    assert await ready(scene) == {"alice": 61}
    assert await _round_trips(scene, monkeypatch) == alone <= 12


async def test_beyond_what_is_looked_at_nobody_is_left_out_for_what_others_have(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        await scene.set_up(items=1, ref=StreamRef(RENDER.user, f"s{number}"))
    await scene.set_up(items=1, ref=BOBS)
    monkeypatch.setattr(looking, "MAX_LOOKED_AT", 4)
    page = await scene.store.demand(lambda _: True)
    assert page.is_cut
    assert {demand.user: demand.ready for demand in page.demands} == {"alice": 3, "bob": 1}
    assert not (await scene.store.demand(lambda user: user == "bob")).is_cut


async def test_users_rows_and_revisions_that_are_not_looked_at_are_told_to_be_there(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for memory_mib in (1_024, 2_048, 4_096):
        await scene.set_up(msgspec.structs.replace(SPEC, needs=Needs(memory_mib=memory_mib)), items=1)
    await scene.set_up(items=1, ref=BOBS)
    assert sorted((await ready(scene)).items()) == [("alice", 3), ("bob", 1)]
    for bound, most, rows in (("MAX_LANES", 2, 3), ("MAX_USERS", 1, 3), ("MAX_DEMANDS", 2, 2)):
        with monkeypatch.context() as bounded:
            bounded.setattr(looking, bound, most)
            page = await scene.store.demand(lambda _: True)
        assert page.is_cut, bound
        assert len(page.demands) == rows, bound


async def _round_trips(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how often the store is called for one demand, with no definition in memory."""
    server, calls = scene.store._server, 0
    command, commands = server.command, server.commands

    async def counted(*parts: Any) -> Any:
        nonlocal calls
        calls += 1
        return await command(*parts)

    async def counted_batch(batch: Any) -> Any:
        nonlocal calls
        calls += 1
        return await commands(batch)

    scene.store._definitions.clear()
    with monkeypatch.context() as counting:
        counting.setattr(server, "command", counted)
        counting.setattr(server, "commands", counted_batch)
        await scene.store.demand(lambda _: True)
    return calls

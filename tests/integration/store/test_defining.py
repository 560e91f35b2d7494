import msgspec

from broker.store import MachineFacts, Store
from broker.wire.names import MachineRef, StreamRef, UserName, check_digest
from tests.integration.store.scene import ALICE, DEFINITION, FACTS, RENDER, SPEC, Scene

DEB12 = MachineRef(ALICE, "deb12")


async def test_every_put_of_a_machine_is_a_revision_and_earlier_ones_stay(store: Store) -> None:
    first = await store.put_machine(DEB12, DEFINITION, FACTS)
    second = await store.put_machine(DEB12, DEFINITION, MachineFacts(2, 2_048, "efi", ("a sound card",)))
    assert (first.revision, second.revision) == (1, 2)
    assert await store.get_machine(DEB12) == second
    assert await store.get_machine(DEB12, 1) == first
    assert await store.get_machine(DEB12, 3) is None
    assert await store.list_machines(ALICE) == [second]


async def test_same_machine_again_keeps_the_revision(store: Store) -> None:
    two = dict.fromkeys(("vda", "vdb"), DEFINITION.disks["vda"])
    first = await store.put_machine(DEB12, msgspec.structs.replace(DEFINITION, disks=two), FACTS)
    turned = dict(reversed(two.items()))
    assert await store.put_machine(DEB12, msgspec.structs.replace(DEFINITION, disks=turned), FACTS) == first
    assert (await store.put_machine(DEB12, DEFINITION, FACTS)).revision == 2


async def test_same_spec_again_keeps_the_revision_and_another_makes_the_next(scene: Scene) -> None:
    again = await scene.store.put_stream(RENDER, SPEC)
    other = await scene.store.put_stream(RENDER, msgspec.structs.replace(SPEC, run="other"))
    back = await scene.store.put_stream(RENDER, SPEC)
    assert [view.revision for view in (again, other, back)] == [1, 2, 3]
    assert back.created_at == again.created_at
    assert await scene.events() == ["stream.created"]


async def test_items_keep_the_revision_they_were_pushed_under(scene: Scene) -> None:
    await scene.push(1)
    await scene.store.put_stream(RENDER, msgspec.structs.replace(SPEC, run="other"))
    await scene.push(1)
    given = [await scene.dispatched(), await scene.dispatched()]
    assert [(each.item.revision, each.spec.run) for each in given] == [(1, SPEC.run), (2, "other")]


async def test_streams_are_listed_by_user_and_name(scene: Scene) -> None:
    await scene.set_up(ref=StreamRef(ALICE, "mc"))
    await scene.set_up(ref=StreamRef(UserName("bob"), "mc"))
    assert [view.stream for view in await scene.store.list_streams(ALICE)] == ["alice/mc", "alice/render"]
    assert await scene.store.get_stream(StreamRef(ALICE, "none")) is None


async def test_image_is_known_only_to_those_it_was_granted(store: Store) -> None:
    digest = check_digest(f"sha256:{'a' * 64}")
    await store.grant_image(ALICE, digest, 4_096)
    assert await store.image_size(ALICE, digest) == 4_096
    assert await store.image_size(UserName("bob"), digest) is None

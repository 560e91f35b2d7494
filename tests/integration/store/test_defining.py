import msgspec
import pytest

from broker.domain.errors import Conflict, Rejected
from broker.store import MachineFacts, Store
from broker.wire.names import MachineRef, StreamRef, UserName, check_digest
from broker.wire.streams import Needs, StreamSpec
from tests.integration.store.scene import ALICE, DEFINITION, FACTS, IMAGE, RENDER, SPEC, Scene

DEB12 = MachineRef(ALICE, "deb12")


async def test_every_put_of_a_machine_is_a_revision_and_earlier_ones_stay(store: Store) -> None:
    await store.grant_image(ALICE, IMAGE, 1_000)
    first = await store.put_machine(DEB12, DEFINITION, FACTS)
    second = await store.put_machine(DEB12, DEFINITION, MachineFacts(2, 2_048, "efi", ("a sound card",)))
    assert (first.revision, second.revision) == (1, 2)
    assert await store.get_machine(DEB12) == second
    assert await store.get_machine(DEB12, 1) == first
    assert await store.get_machine(DEB12, 3) is None
    assert await store.list_machines(ALICE) == [second]


async def test_same_machine_again_keeps_the_revision(store: Store) -> None:
    await store.grant_image(ALICE, IMAGE, 1_000)
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


async def test_same_spec_with_its_defaults_written_out_keeps_the_revision(scene: Scene) -> None:
    spec = msgspec.structs.replace(SPEC, params={"a": "1", "b": "2"}, needs=Needs(memory_mib=512))
    first = await scene.store.put_stream(RENDER, spec)
    written = {"output": {"files": ["*"]}, "needs": {"disk_mib": 10_240, "memory_mib": 512}, "limits": {}}
    again = {**msgspec.to_builtins(spec), **written, "params": {"b": "2", "a": "1"}}
    second = await scene.store.put_stream(RENDER, msgspec.convert(again, StreamSpec))
    assert (second.revision, second.spec) == (first.revision, spec)


async def test_each_revision_can_be_asked_for_and_is_listed(scene: Scene) -> None:
    await scene.store.put_stream(RENDER, msgspec.structs.replace(SPEC, run="", script="#!/bin/sh\n"))
    first = await scene.store.get_stream(RENDER, 1)
    assert first is not None
    assert (first.revision, first.spec) == (1, SPEC)
    assert await scene.store.get_stream(RENDER, 3) is None
    listed = await scene.store.revisions(RENDER)
    assert [(each.revision, each.run, each.has_script) for each in listed] == [(2, "", True), (1, SPEC.run, False)]
    assert all(each.put_at for each in listed)
    assert await scene.store.revisions(StreamRef(ALICE, "none")) == []


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


async def test_a_machine_that_nothing_wants_goes_with_its_grants_and_its_definitions_stay(store: Store) -> None:
    bob = UserName("bob")
    await store.grant_image(ALICE, IMAGE, 1_000)
    await store.grant_image(bob, IMAGE, 1_000)
    first = await store.put_machine(DEB12, DEFINITION, FACTS)
    await store.share_machine(DEB12, bob)
    await store.put_stream(StreamRef(bob, "mc"), msgspec.structs.replace(SPEC, machine="alice/deb12"))
    with pytest.raises(Conflict, match="a stream of bob's names it"):
        await store.delete_machine(DEB12)
    await store.unshare_machine(DEB12, bob)
    await store.delete_machine(DEB12)
    assert await store.get_machine(DEB12) is None
    assert await store.get_machine(DEB12, first.revision) == first
    assert (await store.image_size(ALICE, IMAGE), await store.image_size(bob, IMAGE)) == (None, 1_000)
    assert await store.ungranted_images() == []
    with pytest.raises(Rejected, match="has not uploaded"):
        await store.put_machine(DEB12, DEFINITION, FACTS)


async def test_an_image_is_nobodys_when_its_last_grant_went_and_somebodys_when_it_comes_back(store: Store) -> None:
    await store.grant_image(ALICE, IMAGE, 1_000)
    await store.put_machine(DEB12, DEFINITION, FACTS)
    await store.delete_machine(DEB12)
    assert await store.ungranted_images() == [IMAGE]
    await store.grant_image(ALICE, IMAGE, 1_000)
    await store.grant_image(ALICE, IMAGE, 1_000)
    assert not await store.is_ungranted(IMAGE)
    await store.put_machine(DEB12, DEFINITION, FACTS)
    await store.delete_machine(DEB12)
    assert await store.is_ungranted(IMAGE)
    await store.forget_image(IMAGE)
    assert await store.ungranted_images() == []


async def test_expected_bytes_are_nobodys_until_granted_but_never_those_that_somebody_has(store: Store) -> None:
    await store.expect_image(IMAGE)
    assert await store.ungranted_images() == [IMAGE]
    await store.grant_image(ALICE, IMAGE, 1_000)
    assert await store.ungranted_images() == []
    await store.expect_image(IMAGE)
    assert not await store.is_ungranted(IMAGE)

"""What a user may have of everything that stays: files, images, revisions, machines that were removed."""

import msgspec
import pytest

from broker.domain.errors import Rejected
from broker.domain.limits import LIMITS
from broker.store import Store
from broker.wire.accounts import UserSettings
from broker.wire.names import Digest, MachineRef, UserName, check_digest
from broker.wire.problems import ProblemCode
from tests.integration.store.scene import ALICE, DEFINITION, FACTS, IMAGE, RENDER, SPEC, Scene
from tests.support.api import digest_of

BOB = UserName("bob")


def lower(monkeypatch: pytest.MonkeyPatch, **bounds: int) -> None:
    for name, value in bounds.items():
        monkeypatch.setitem(LIMITS, name, LIMITS[name]._replace(default=value))


def another(number: int) -> Digest:
    return check_digest(digest_of(b"%d" % number))


async def test_files_take_no_more_room_than_their_user_may_have(store: Store) -> None:
    await store.put_user(ALICE, UserSettings(most_file_bytes=100))
    await store.reserve_file(ALICE, 60)

    with pytest.raises(Rejected, match=r"alice's room for files is full.* more than 100 bytes") as refused:
        await store.reserve_file(ALICE, 41)
    assert refused.value.code is ProblemCode.QUOTA_EXCEEDED
    await store.reserve_file(ALICE, 40)
    await store.reserve_file(BOB, 1_000)

    await store.free_file(ALICE, 30)
    view = await store.get_user(ALICE)
    assert (view.file_bytes, view.most_file_bytes) == (70, 100)
    await store.free_file(ALICE, 1_000)
    assert (await store.get_user(ALICE)).file_bytes == 0, "never less than nothing"


async def test_a_recount_holds_only_when_nothing_moved_meanwhile(store: Store) -> None:
    moves = await store.file_moves(ALICE)
    assert moves == 0, "a user from before there was a count is counted"
    await store.reserve_file(ALICE, 10)
    assert not await store.recount_files(ALICE, moves, 5)
    assert (await store.get_user(ALICE)).file_bytes == 10

    moves = await store.file_moves(ALICE)
    assert moves == 1
    assert await store.recount_files(ALICE, moves, 7)

    assert (await store.get_user(ALICE)).file_bytes == 7
    assert await store.file_moves(ALICE) is None, "there is nothing to count until it moves again"
    await store.free_file(ALICE, 7)
    assert await store.file_moves(ALICE) == 2


async def test_images_take_no_more_room_than_their_user_may_have(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.put_user(ALICE, UserSettings(most_image_bytes=2_500))
    await store.grant_image(ALICE, IMAGE, 1_000)
    await store.grant_image(ALICE, another(1), 1_500)

    with pytest.raises(Rejected, match=r"alice's room for images is full.* more than 2500 bytes") as refused:
        await store.grant_image(ALICE, another(2), 1)
    assert refused.value.code is ProblemCode.QUOTA_EXCEEDED
    await store.grant_image(ALICE, IMAGE, 1_000)
    await store.grant_image(BOB, another(2), 1)
    view = await store.get_user(ALICE)
    assert (view.image_bytes, view.most_image_bytes) == (2_500, 2_500)
    assert await store.image_size(ALICE, another(2)) is None

    await store.delete_image(ALICE, another(1))
    await store.grant_image(ALICE, another(2), 1)

    lower(monkeypatch, user_images=2)
    with pytest.raises(Rejected, match="alice has 2 images, as many as may be"):
        await store.grant_image(ALICE, another(3), 1)


async def test_a_streams_spec_has_so_many_revisions(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    lower(monkeypatch, stream_revisions=3)
    specs = [msgspec.structs.replace(SPEC, run=f"run-{number}") for number in (2, 3, 4)]
    assert [(await scene.store.put_stream(RENDER, spec)).revision for spec in specs[:2]] == [2, 3]

    with pytest.raises(Rejected, match="alice/render has 3 revisions of its spec, as many as may be") as refused:
        await scene.store.put_stream(RENDER, specs[2])
    assert refused.value.code is ProblemCode.QUOTA_EXCEEDED

    assert (await scene.store.put_stream(RENDER, specs[1])).revision == 3, "the same again is no revision"
    await scene.store.put_stream(RENDER._replace(name="another"), SPEC)


async def test_adding_and_removing_machines_in_turn_keeps_no_more_definitions_than_may_be(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower(monkeypatch, user_machines=2)
    bare = msgspec.structs.replace(DEFINITION, disks={})
    refs = [MachineRef(ALICE, f"m{number}") for number in range(5)]
    for ref in refs:
        await store.put_machine(ref, bare, FACTS)
        await store.put_machine(ref, msgspec.structs.replace(bare, domain_xml=f"<domain>{ref}</domain>"), FACTS)
        await store.delete_machine(ref)

    keys = [store._keys.machine(ref) for ref in refs]
    assert [await store._server.command("EXISTS", key) for key in keys] == [0, 0, 0, 1, 1]
    assert (await store.put_machine(refs[0], bare, FACTS)).revision == 3, "no revision's number comes twice"
    assert (await store.put_machine(refs[4], bare, FACTS)).revision == 5
    assert await store._server.command("ZRANGE", store._keys.removed_machines(ALICE), 0, -1) == ["m3"]

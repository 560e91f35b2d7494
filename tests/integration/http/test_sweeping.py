"""What goes by itself: images that no machine names, once their user had the time to name them."""

from pathlib import Path

import msgspec
import pytest

from broker.auth.keys import load_keys
from broker.domain.errors import Rejected
from broker.domain.paths import parse_file_path
from broker.files.free_space import FreeSpace
from broker.files.uploads import Wanted
from broker.http import sweeping
from broker.http.call import Services
from broker.http.images import become_image
from broker.http.server import make_services
from broker.store import Store
from broker.wire.accounts import UserSettings
from broker.wire.machines import Disk
from broker.wire.names import Digest, MachineRef, check_digest
from tests.integration.store.scene import ALICE, DEFINITION, FACTS
from tests.support.api import digest_of
from tests.support.sources import chunks

CONTENT = b"the bytes of an image"
DEB12 = MachineRef(ALICE, "deb12")


@pytest.fixture
def services(store: Store, tmp_path: Path) -> Services:
    files, space = tmp_path / "files", FreeSpace(tmp_path, floor_bytes=0)
    return make_services(store, load_keys(tmp_path / "keys"), files, "http://broker.example", space=space)


async def bring(services: Services, folder: Path, content: bytes = CONTENT) -> Digest:
    digest, proved = check_digest(digest_of(content)), folder / "proved"
    proved.write_bytes(content)
    await become_image(services, ALICE, digest, proved, len(content))
    proved.unlink()
    return digest


async def name(services: Services, digest: Digest) -> None:
    disk = Disk(digest=digest, size_bytes=1)
    await services.store.put_machine(DEB12, msgspec.structs.replace(DEFINITION, disks={"vda": disk}), FACTS)


async def test_an_image_that_no_machine_takes_up_goes_after_a_day(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await bring(services, tmp_path)
    await sweeping.sweep_once(services)
    assert await services.images.is_there(digest)

    monkeypatch.setattr(sweeping, "UNNAMED_MS", 0)
    await sweeping.sweep_once(services)

    assert not await services.images.is_there(digest)
    assert await services.store.list_images(ALICE) == []
    assert await services.store.unnamed_images() == []


async def test_nothing_goes_from_a_user_who_still_uploads(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "UNNAMED_MS", 0)
    digest = await bring(services, tmp_path)
    standing = await services.uploads.begin(ALICE, Wanted(check_digest(digest_of(b"x")), 1), resume=True)

    await sweeping.sweep_once(services)
    assert await services.images.is_there(digest)

    await services.uploads.remove(ALICE, standing.upload)
    await sweeping.sweep_once(services)
    assert not await services.images.is_there(digest)


async def test_images_of_a_replaced_revision_stay_for_vms_that_have_it_and_then_go(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = await bring(services, tmp_path, b"old"), await bring(services, tmp_path, b"new")
    await name(services, old)
    assert await services.store.unnamed_images() == [(ALICE, new)]
    await name(services, new)
    assert await services.store.unnamed_images() == [(ALICE, old)]

    await sweeping.sweep_once(services)
    assert await services.images.is_there(old)
    monkeypatch.setattr(sweeping, "UNNAMED_MS", 0)
    await sweeping.sweep_once(services)

    assert [await services.images.is_there(each) for each in (old, new)] == [False, True]
    assert [(each.digest, each.machines) for each in await services.store.list_images(ALICE)] == [(new, ["deb12"])]


async def test_what_another_machine_names_does_not_go_with_a_revision(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "UNNAMED_MS", 0)
    shared, new = await bring(services, tmp_path, b"shared"), await bring(services, tmp_path, b"new")
    await name(services, shared)
    disk = Disk(digest=shared, size_bytes=1)
    other = msgspec.structs.replace(DEFINITION, disks={"vda": disk})
    await services.store.put_machine(MachineRef(ALICE, "other"), other, FACTS)
    await name(services, new)

    await sweeping.sweep_once(services)

    assert await services.images.is_there(shared)
    assert await services.store.unnamed_images() == []


async def test_the_room_of_files_is_set_right_by_what_is_on_the_disk(services: Services) -> None:
    await services.files.put(parse_file_path("alice/a"), chunks(CONTENT), expected=None, create_only=False)
    taken = (await services.store.get_user(ALICE)).file_bytes
    # As a broker does that dies while it takes a file in.
    await services.store.reserve_file(ALICE, 1_000_000)

    await sweeping.sweep_once(services)

    assert (await services.store.get_user(ALICE)).file_bytes == taken == 4_096 + len(CONTENT)


async def test_an_image_that_its_user_has_no_room_for_leaves_nothing(services: Services, tmp_path: Path) -> None:
    await services.store.put_user(ALICE, UserSettings(most_image_bytes=3))

    with pytest.raises(Rejected, match="room for images is full"):
        await bring(services, tmp_path)

    assert not await services.images.is_there(check_digest(digest_of(CONTENT)))
    assert await services.store.ungranted_images() == []

import asyncio
import errno
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.domain.errors import Rejected, Unavailable
from broker.domain.paths import FilePath, parse_file_path
from broker.files import direct_file
from broker.files.free_space import FreeSpace
from broker.files.images import Images
from broker.files.source import Chunks
from broker.files.tails import Tails
from broker.files.user_files import UserFiles
from broker.wire.dispatches import MAX_CONSOLE_BYTES
from broker.wire.names import DispatchId, ItemRef, StreamRef, UserName, check_digest
from broker.wire.problems import ProblemCode
from tests.support.api import digest_of
from tests.support.sources import chunks

PATH = parse_file_path("alice/a/b.txt")


class Counted:
    """The count of users' room, without a bound: the store's own is tried with the store."""

    def __init__(self) -> None:
        self.bytes: Counter[UserName] = Counter()

    async def reserve_file(self, user: UserName, more_bytes: int) -> None:
        self.bytes[user] += more_bytes

    async def free_file(self, user: UserName, less_bytes: int) -> None:
        self.bytes[user] -= less_bytes


async def admitted(_: int) -> None:
    """Stand where a user's room is looked at."""


def kept_below(folder: Path, space: FreeSpace | None = None, counted: Counted | None = None) -> UserFiles:
    return UserFiles(folder, limit_bytes=100, space=space or roomy(folder.parent), counting=counted or Counted())


async def keep(images: Images, content: bytes, digest: str = "") -> None:
    named = check_digest(digest or digest_of(content))
    async with images.received(named, chunks(content[:2], content[2:]), admitted) as received:
        await images.keep(named, received.path)
        await images.seal(named)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def roomy(folder: Path) -> FreeSpace:
    return FreeSpace(folder, floor_bytes=0)


def full(folder: Path) -> FreeSpace:
    return FreeSpace(folder, floor_bytes=1 << 62)


@pytest.fixture
def files(tmp_path: Path) -> UserFiles:
    return kept_below(tmp_path)


async def put(files: UserFiles, content: bytes, path: FilePath = PATH, *, create_only: bool = False) -> bool:
    _, is_new = await files.put(path, chunks(content), expected=None, create_only=create_only)
    return is_new


async def test_a_replaced_file_leaves_nothing_of_the_old_one(files: UserFiles, tmp_path: Path) -> None:
    assert await put(files, b"old")
    assert not await put(files, b"new")

    stored = await files.find(PATH)

    assert stored is not None
    assert stored.location is not None
    assert stored.location.read_bytes() == b"new"
    assert len(files_below(tmp_path)) == 2, "one record, one object"


async def test_what_broke_off_or_was_too_large_leaves_nothing(files: UserFiles, tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        await files.put(PATH, chunks(b"half", broken=True), expected=None, create_only=False)
    with pytest.raises(Rejected, match="larger than 100 bytes"):
        await put(files, b"x" * 101)

    assert files_below(tmp_path) == []


async def test_of_many_that_create_one_file_in_several_processes_one_wins(files: UserFiles, tmp_path: Path) -> None:
    elsewhere = kept_below(tmp_path)
    contents = [bytes([65 + number]) for number in range(4)]

    outcomes = await asyncio.gather(
        *(put(each, content, create_only=True) for content in contents for each in (files, elsewhere)),
        return_exceptions=True,
    )

    assert outcomes.count(True) == 1
    assert outcomes.count(False) == 1, "the same bytes again are a retry"
    assert sum(isinstance(outcome, Rejected) for outcome in outcomes) == 6
    assert len(files_below(tmp_path)) == 2


async def test_a_full_disk_is_said_to_be_one(files: UserFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(direct_file, "_write", no_space)

    with pytest.raises(Unavailable, match="disk"):
        await put(files, b"x")

    assert files_below(tmp_path) == []


async def test_below_the_floor_of_free_space_no_byte_is_taken_in(tmp_path: Path) -> None:
    files = kept_below(tmp_path / "users", full(tmp_path))
    images = Images(tmp_path, limit_bytes=100, space=full(tmp_path))

    for refused in (put(files, b""), keep(images, b"x")):
        with pytest.raises(Unavailable) as caught:
            await refused
        assert caught.value.code == ProblemCode.STORE_DISK_FULL

    assert files_below(tmp_path) == []


async def test_a_file_that_takes_the_space_down_to_the_floor_is_dropped_on_its_way(tmp_path: Path) -> None:
    space = roomy(tmp_path)
    files = kept_below(tmp_path, space)

    async def filling() -> AsyncIterator[bytes]:
        yield b"first"
        space._floor_bytes = 1 << 62
        yield b"second"

    with pytest.raises(Unavailable, match="full"):
        await files.put(PATH, Chunks(filling()), expected=None, create_only=False)

    assert files_below(tmp_path) == []


async def test_nobody_else_may_look_into_any_folder(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    files = kept_below(folder / "users", roomy(tmp_path))
    await put(files, b"x")
    await Tails(folder).keep_log(ItemRef(StreamRef(UserName("alice"), "render"), 1), b"log")

    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    assert [path for path in folders if path.stat().st_mode & 0o077] == []


async def test_an_image_exists_only_with_its_own_bytes(tmp_path: Path) -> None:
    images = Images(tmp_path, limit_bytes=100, space=roomy(tmp_path))
    digest = check_digest(digest_of(b"image"))
    with pytest.raises(Rejected, match="announced was"):
        await keep(images, b"other", digest)
    assert not await images.is_there(digest)

    for _ in range(2):
        await keep(images, b"image")

    assert images.location(digest).read_bytes() == b"image"
    assert images.location(digest).stat().st_mode & 0o777 == 0o400
    assert len(files_below(tmp_path)) == 1


async def test_of_a_console_its_end_is_kept(tmp_path: Path) -> None:
    tails = Tails(tmp_path)
    dispatch = DispatchId("1a2b3c4d-5e6f-4a0b-8c0d-0123456789ab")
    assert await tails.console(dispatch) is None

    await tails.keep_console(dispatch, b"x" * MAX_CONSOLE_BYTES + b"end")

    kept = await tails.console(dispatch)
    assert kept is not None
    assert len(kept) == MAX_CONSOLE_BYTES
    assert kept.endswith(b"end")


async def test_the_room_of_files_is_what_they_take_whatever_became_of_the_putting(tmp_path: Path) -> None:
    counted = Counted()
    files = kept_below(tmp_path, counted=counted)
    other = parse_file_path("alice/other")
    alice = PATH.user

    await put(files, b"x" * 10)
    await files.put(other, chunks(b"y" * 7), expected=None, create_only=False, announced_bytes=7)
    assert counted.bytes[alice] == 2 * 4_096 + 17 == await files.counted(alice)
    await put(files, b"z")
    await put(files, b"z")
    assert counted.bytes[alice] == 2 * 4_096 + 8 == await files.counted(alice)
    with pytest.raises(ConnectionResetError):
        await files.put(other, chunks(b"half", broken=True), expected=None, create_only=False, announced_bytes=90)
    with pytest.raises(Rejected, match="announced was"):
        await files.put(other, chunks(b"a"), expected=check_digest(digest_of(b"b")), create_only=False)
    with pytest.raises(Rejected, match="other bytes"):
        await put(files, b"mine", create_only=True)
    assert counted.bytes[alice] == 2 * 4_096 + 8
    assert [await files.delete(path) for path in (PATH, PATH, other)] == [True, False, True]
    assert counted.bytes[alice] == 0 == await files.counted(alice)
    assert await files.users() == ["alice"]


async def test_what_is_being_put_is_not_counted_anew(tmp_path: Path) -> None:
    files, elsewhere = kept_below(tmp_path), kept_below(tmp_path)
    seen: list[int | None] = []

    async def looking() -> AsyncIterator[bytes]:
        yield b"first"
        seen.append(await elsewhere.counted(PATH.user))

    await files.put(PATH, Chunks(looking()), expected=None, create_only=False)

    assert seen == [None]
    assert await elsewhere.counted(PATH.user) == 4_096 + 5

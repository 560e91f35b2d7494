"""A cache that several accounts share, one of which is not to be trusted."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from launcher.images import Address, CacheFailed, Image, ImageCache
from launcher.images.locks import _MAKING_S, locked
from launcher.images.verified import Identity, Verified
from tests.integration.images.conftest import MakeCache
from tests.integration.images.servers import ImageServer, image_of, qcow2, serving
from tests.support.ordinary_account import can_run_us
from tests.support.waiting import until

OTHER_UID, THIRD_UID = 65_534, 65_533
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not can_run_us(),
    reason="only root can act as a second account, where that may read the checkout and run its Python",
)


@pytest.fixture
def shared(open_path: Path) -> Path:
    """Return a cache folder as a site makes one for all accounts: anybody's to write to, and sticky."""
    folder = open_path / "cache"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return qcow2(tmp_path)


@asynccontextmanager
async def another_account(folder: Path, url: str, image: Image, uid: int = OTHER_UID) -> AsyncIterator[str]:
    """Fetch the image as the other account and hold it; give the path or the error that it tells."""
    memory = folder.parent / f"memory-of-{uid}"
    memory.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        os.chown(memory, uid, uid)
    launcher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.images.one_launcher", str(uid), str(folder), str(memory)),
        *(url, image.digest, str(image.size_bytes)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert launcher.stdout is not None
    assert launcher.stdin is not None
    try:
        async with asyncio.timeout(30):
            while (line := (await launcher.stdout.readline()).decode().strip()) and "[" in line:
                continue
            yield line
    finally:
        launcher.stdin.close()
        await launcher.wait()


@needs_root
async def test_accounts_share_one_download_and_each_copies_what_another_could_change(
    shared: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ImageServer(content)
    image = image_of(content)
    async with serving(server) as (_, url), another_account(shared, url, image) as path:
        assert path == str(shared / image.file_name)
        copy = shared / f"own-{THIRD_UID}" / image.file_name
        for _ in range(2):
            async with another_account(shared, url, image, THIRD_UID) as own_path:
                assert own_path == str(copy)
        # Its owner may now do with it what it likes.
        Path(path).chmod(0o644)
        Path(path).write_bytes(b"/etc/passwd as a backing file")
        assert copy.read_bytes() == content
        assert copy.stat().st_uid == THIRD_UID
    assert server.ranges == [None]
    assert "image_tampered" not in capsys.readouterr().out


@needs_root
async def test_what_root_has_verified_is_used_by_every_account_where_it_is(
    shared: Path, content: bytes, make_cache: MakeCache
) -> None:
    server = ImageServer(content)
    image = image_of(content)
    async with serving(server) as (session, url), another_account(shared, url, image):
        with await make_cache().fetch(image, Address(session, url)) as held:
            assert held.path == shared / image.file_name
            assert held.path.stat().st_uid == 0
        async with another_account(shared, url, image, THIRD_UID) as path:
            assert path == str(shared / image.file_name)
    assert server.ranges == [None]


@needs_root
@pytest.mark.parametrize(("uid", "mode"), [(OTHER_UID, 0o644), (0, 0o666)])
async def test_what_another_account_could_have_changed_is_hashed_as_it_is_copied(
    shared: Path, content: bytes, make_cache: MakeCache, capsys: pytest.CaptureFixture[str], uid: int, mode: int
) -> None:
    server = ImageServer(content)
    image = image_of(content)
    async with serving(server) as (session, url):
        with await make_cache().fetch(image, Address(session, url)) as held:
            path = held.path
        os.chown(path, uid, uid)
        path.chmod(mode)
        # The memory knows it as it is: what is written by way of a mapping leaves the file's times alone for a while.
        with path.open("r+b") as file:
            file.seek(len(content) // 2)
            file.write(b"tampered")
            Verified(make_cache().folder.parent / "memory").note(image.digest, Identity.of(file.fileno()))
        with await make_cache().fetch(image, Address(session, url)) as held:
            assert held.path.read_bytes() == content
    assert "image_tampered" in capsys.readouterr().out
    assert len(server.asked) == 2


@needs_root
async def test_an_account_that_may_not_replace_a_wrong_file_keeps_a_copy_of_its_own(
    shared: Path, content: bytes
) -> None:
    server = ImageServer(content)
    image = image_of(content)
    (shared / image.file_name).write_bytes(content[:-8] + b"tampered")
    (shared / image.file_name).chmod(0o444)
    async with serving(server) as (_, url):
        for _ in range(2):
            async with another_account(shared, url, image) as path:
                assert path == str(shared / f"own-{OTHER_UID}" / image.file_name)
                assert Path(path).read_bytes() == content
    assert server.ranges == [None]


async def test_links_pipes_and_folders_in_place_of_an_image_are_neither_followed_nor_waited_for(
    open_path: Path, content: bytes, make_cache: MakeCache
) -> None:
    image = image_of(content)
    outside = open_path / "outside"
    outside.write_bytes(content)
    server = ImageServer(content)
    cache = make_cache()
    place = cache.folder / image.file_name
    async with serving(server) as (session, url):
        puts: list[Callable[[], None]] = [lambda: place.symlink_to(outside), lambda: os.mkfifo(place), place.mkdir]
        for count, put in enumerate(puts, 1):
            put()
            with await cache.fetch(image, Address(session, url)) as held:
                assert held.path.read_bytes() == content
                assert not held.path.is_symlink()
            assert len(server.asked) == count
            held.path.unlink()
    assert outside.read_bytes() == content


@pytest.mark.parametrize("name", ["sha256-{hex}.lock", "room.lock", "own-{uid}/sha256-{hex}.{size}.part"])
async def test_no_file_of_another_accounts_choosing_is_written_to(
    open_path: Path, content: bytes, make_cache: MakeCache, name: str
) -> None:
    image = image_of(content)
    precious = open_path / "precious"
    precious.write_text("not an image")
    cache = make_cache()
    hexadecimal = image.digest.removeprefix("sha256:")
    link = cache.folder / name.format(hex=hexadecimal, uid=os.geteuid(), size=image.size_bytes)
    link.symlink_to(precious)
    async with serving(ImageServer(content)) as (session, url):
        with pytest.raises(CacheFailed, match="cannot be used: Too many levels of symbolic links"):
            await cache.fetch(image, Address(session, url))
    assert precious.read_text() == "not an image"


@needs_root
def test_a_folder_that_another_account_put_in_place_of_ones_own_is_refused(shared: Path, make_cache: MakeCache) -> None:
    own = shared / f"own-{os.geteuid()}"
    own.mkdir()
    os.chown(own, OTHER_UID, OTHER_UID)
    with pytest.raises(CacheFailed, match=r"is no folder of this account \(uid 0\) alone: have it removed"):
        make_cache()


def test_a_memory_that_others_could_have_written_is_not_believed(open_path: Path) -> None:
    identity = Identity(1, 2, 3, 4, 5)
    Verified(open_path).note("sha256:0", identity)
    (memory,) = open_path.glob("verified-images-*.json")
    assert memory.stat().st_mode & 0o777 == 0o600
    assert Verified(open_path).knows("sha256:0", identity)
    memory.chmod(0o620)
    assert not Verified(open_path).knows("sha256:0", identity)


@needs_root
async def test_an_image_that_another_accounts_vm_uses_stays(
    shared: Path, content: bytes, make_cache: MakeCache
) -> None:
    image = image_of(content)
    cache: ImageCache = make_cache(limit_mib=4)
    large = os.urandom(4_000_000)
    async with serving(ImageServer(content)) as (_, url), serving(ImageServer(large)) as (session, larges_url):
        async with another_account(shared, url, image):
            with pytest.raises(CacheFailed, match="cannot be made free"):
                await cache.fetch(image_of(large, "raw"), Address(session, larges_url))
            assert (shared / image.file_name).exists()
        with await cache.fetch(image_of(large, "raw"), Address(session, larges_url)):
            assert not (shared / image.file_name).exists()


@needs_root
@pytest.mark.parametrize(("mode", "lock_mode"), [(0o755, 0o600), (0o1777, 0o644)])
async def test_nobody_else_can_hold_the_locks_of_a_folder_that_is_not_shared(
    shared: Path, content: bytes, make_cache: MakeCache, mode: int, lock_mode: int
) -> None:
    shared.chmod(mode)
    os.chown(shared, OTHER_UID, OTHER_UID)
    async with serving(ImageServer(content)) as (session, url):
        with await make_cache().fetch(image_of(content), Address(session, url)):
            statuses = [path.stat() for path in shared.glob("*.lock")]
    assert len(statuses) == 2
    assert {status.st_mode & 0o777 for status in statuses} == {lock_mode}
    # Root must not lock the folder's own account out.
    assert {status.st_uid for status in statuses} == {0 if mode & 0o022 else OTHER_UID}


async def test_who_keeps_a_lock_for_ever_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.images.locks._STALLED_S", 0.1)
    path = tmp_path / "room.lock"
    holder = f"process {os.getpid()} of uid {os.geteuid()}"
    async with locked(path):
        with pytest.raises(CacheFailed, match=f"{holder} holds {path} and got no further for 0.1 s: end that process"):
            async with locked(path):
                pass


@needs_root
async def test_a_lock_that_another_account_is_just_making_is_waited_for(shared: Path, content: bytes) -> None:
    image = image_of(content)
    lock = shared / "room.lock"
    lock.touch(0o600)
    async with serving(ImageServer(content)) as (_, url):

        async def refused() -> bool:
            return (shared / f"own-{OTHER_UID}").exists() and (shared / f"{image.file_name}.lock").exists()

        async def let_in() -> None:
            await until(refused, "the other account at its locks")
            lock.chmod(0o644)

        async with asyncio.TaskGroup() as group:
            group.create_task(let_in())
            async with another_account(shared, url, image) as path:
                assert path == str(shared / image.file_name)
        # One that has not been opened for all for a while never will be.
        (shared / image.file_name).unlink()
        lock.chmod(0o600)
        await until(lambda: _is_old(lock), "the lock's age")
        async with another_account(shared, url, image) as error:
            assert error.endswith("cannot be used: Permission denied")


async def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_ctime > _MAKING_S


@needs_root
def test_a_folder_that_is_exchanged_while_it_is_cleared_leads_nowhere_else(
    shared: Path, open_path: Path, make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, theirs, outside = make_cache(), shared / f"own-{OTHER_UID}", open_path / "roots"
    name = f"sha256-{'0' * 64}.9.part"
    for folder in (theirs, outside):
        folder.mkdir()
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    os.chown(theirs, OTHER_UID, OTHER_UID)
    listed = os.listdir

    def exchange_once_listed(folder: int) -> list[str]:
        names = listed(folder)
        if name in names:
            theirs.rename(shared / "moved")
            theirs.symlink_to(outside)
        return names

    monkeypatch.setattr(os, "listdir", exchange_once_listed)
    cache.prepare()
    assert theirs.is_symlink()
    assert (outside / name).exists()
    assert not (shared / "moved" / name).exists()


@needs_root
async def test_a_download_that_another_account_only_claims_takes_no_room(
    shared: Path, content: bytes, make_cache: MakeCache
) -> None:
    theirs = shared / f"own-{OTHER_UID}"
    theirs.mkdir()
    claim = theirs / f"sha256-{'0' * 64}.{10**16 - 1}.part"
    claim.write_bytes(b"a byte")
    for path in (theirs, claim):
        os.chown(path, OTHER_UID, OTHER_UID)
    async with serving(ImageServer(content)) as (session, url):
        with await make_cache(limit_mib=8).fetch(image_of(content), Address(session, url)):
            pass


@pytest.mark.parametrize("place", ["cache", "cache/own-{uid}"])
def test_a_folder_that_is_a_link_to_nothing_is_told(open_path: Path, make_cache: MakeCache, place: str) -> None:
    link = open_path / place.format(uid=os.geteuid())
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(open_path / "nothing")
    with pytest.raises(CacheFailed, match=f"{link} is a link to nothing: have it removed, or name another --cache"):
        make_cache()

"""A cache that several accounts share, one of which is not to be trusted."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from launcher.images import Address, CacheFailed, Image, ImageCache
from launcher.images.verified import Identity, Verified
from tests.integration.images.conftest import MakeCache
from tests.integration.images.servers import ImageServer, image_of, qcow2, serving

OTHER_UID = 65_534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as a second account")


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
async def another_account(folder: Path, url: str, image: Image) -> AsyncIterator[str]:
    """Fetch the image as the other account and hold it; give the path or the error that it tells."""
    memory = folder.parent / "others-memory"
    memory.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        os.chown(memory, OTHER_UID, OTHER_UID)
    launcher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.images.one_launcher", str(OTHER_UID), str(folder), str(memory)),
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
async def test_accounts_share_one_copy_and_each_hashes_what_is_not_its_own(
    shared: Path, content: bytes, make_cache: MakeCache
) -> None:
    server = ImageServer(content)
    image = image_of(content)
    async with serving(server) as (session, url), another_account(shared, url, image) as path:
        assert path == str(shared / image.file_name)
        assert Path(path).stat().st_uid == OTHER_UID
        with await make_cache().fetch(image, Address(session, url)) as held:
            assert str(held.path) == path
    assert server.ranges == [None]


@needs_root
async def test_what_another_account_changed_is_not_used(
    shared: Path, content: bytes, make_cache: MakeCache, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ImageServer(content)
    image = image_of(content)
    async with serving(server) as (session, url):
        with await make_cache().fetch(image, Address(session, url)) as held:
            path = held.path
        os.chown(path, OTHER_UID, OTHER_UID)
        path.chmod(0o644)
        before = path.stat()
        with path.open("r+b") as file:
            file.seek(len(content) // 2)
            file.write(b"tampered")
        # Its owner can set the time back, and cannot hide that it did.
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
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

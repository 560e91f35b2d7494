"""Room in the cache: what goes, what stays, and what is said when nothing can."""

import asyncio
import os
import threading
import time

import pytest

from launcher.images import Address, CacheFailed, HeldImage, Image, ImageCache
from launcher.images.locks import try_lock
from launcher.images.room import Room
from tests.integration.images.conftest import MakeCache
from tests.integration.images.servers import ImageServer, image_of, serving

MIB = 1 << 20


async def _fetched(cache: ImageCache, content: bytes) -> HeldImage:
    async with serving(ImageServer(content)) as (session, url):
        return await cache.fetch(image_of(content, "raw"), Address(session, url))


def _age(cache: ImageCache, image: Image, seconds: int) -> None:
    """Make an image look as if it had come, and been used, that much earlier."""
    then = time.time() - seconds
    for path in (cache.folder / image.file_name, *cache.folder.glob(f"own-*/{image.file_name}.used")):
        os.utime(path, (then, then))


def _names(cache: ImageCache) -> set[str]:
    return {path.name for path in cache.folder.glob("sha256-*") if not path.suffix}


async def test_the_images_used_longest_ago_make_room_and_one_in_use_does_not(make_cache: MakeCache) -> None:
    cache, other = make_cache(limit_mib=11), make_cache(limit_mib=11)
    contents = [os.urandom(3 * MIB) for _ in range(3)]
    images = [image_of(content, "raw") for content in contents]
    for content in contents:
        with await _fetched(cache, content):
            pass
    for image, age in zip(images, (300, 200, 100), strict=True):
        _age(cache, image, age)
    with await _fetched(other, contents[0]):
        _age(cache, images[0], 300)
        with await _fetched(cache, newcomer := os.urandom(4 * MIB)):
            assert _names(cache) == {image.file_name for image in (images[0], images[2], image_of(newcomer))}


async def test_an_image_that_was_used_again_outlives_one_that_came_later(make_cache: MakeCache) -> None:
    cache = make_cache(limit_mib=8)
    first, second, third = (os.urandom(3 * MIB) for _ in range(3))
    for content, age in ((first, 300), (second, 200)):
        with await _fetched(cache, content):
            pass
        _age(cache, image_of(content), age)
    with await _fetched(cache, first):
        pass
    with await _fetched(cache, third):
        assert _names(cache) == {image_of(first).file_name, image_of(third).file_name}


async def test_without_enough_that_may_go_nothing_goes_and_the_sentence_says_what_is_needed(
    make_cache: MakeCache,
) -> None:
    cache = make_cache(limit_mib=8)
    used, unused = os.urandom(5 * MIB), os.urandom(2 * MIB)
    with await _fetched(cache, used):
        with await _fetched(cache, unused):
            pass
        with pytest.raises(CacheFailed, match=r"needs 6 MiB in the cache .* cannot be made free: .* vms use 5 MiB"):
            await _fetched(cache, os.urandom(6 * MIB))
        assert _names(cache) == {image_of(used).file_name, image_of(unused).file_name}
    with await _fetched(cache, os.urandom(6 * MIB)):
        assert image_of(used).file_name not in _names(cache)


async def test_a_download_that_somebody_else_has_begun_keeps_its_room(make_cache: MakeCache) -> None:
    cache = make_cache(limit_mib=8)
    begun = cache.folder / f"own-{os.geteuid()}" / f"sha256-{'0' * 64}.{5 * MIB}.part"
    begun.write_bytes(bytes(1000))
    with pytest.raises(CacheFailed, match="needs 4 MiB"):
        await _fetched(cache, os.urandom(4 * MIB))
    with await _fetched(cache, os.urandom(2 * MIB)):
        pass


async def test_downloads_that_nobody_went_on_with_for_a_day_are_removed(make_cache: MakeCache) -> None:
    own = make_cache().folder / f"own-{os.geteuid()}"
    old, young, gone = (
        own / f"sha256-{'0' * 64}.9.part",
        own / f"sha256-{'1' * 64}.9.part",
        own / f"sha256-{'2' * 64}.used",
    )
    for path in (old, young, gone):
        path.touch()
    two_days_ago = time.time() - 2 * 86_400
    for path in (old, gone):
        os.utime(path, (two_days_ago, two_days_ago))
    make_cache()
    assert [path.name for path in own.iterdir()] == [young.name]


def test_files_that_are_not_the_caches_own_stay_however_old_they_are(make_cache: MakeCache) -> None:
    folder = make_cache().folder
    own = folder / f"own-{os.geteuid()}"
    named = f"sha256-{'0' * 64}"
    foreign = [
        folder / name for name in ("thesis.mkv.part", "poetry.lock", "x.used", f"{named}.9.part", "sha256-1.lock")
    ]
    foreign += [own / name for name in ("film.zip.part", f"{named}.lock", "sha256-1.9.part", f"{named}.x.part")]
    (folder / "own-7").mkdir()
    foreign.append(folder / "own-7" / f"{named}.9.part")
    stale = [folder / f"{named}.lock", own / f"{named}.used", own / f"{named}.9.part"]
    two_days_ago = time.time() - 2 * 86_400
    for path in (*foreign, *stale):
        path.touch()
        os.utime(path, (two_days_ago, two_days_ago))
    make_cache()
    assert [path for path in foreign if not path.exists()] == []
    assert [path for path in stale if path.exists()] == []


async def test_making_room_is_ended_before_another_launcher_makes_some(
    make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, begun, ends = make_cache(), threading.Event(), threading.Event()

    def make_slowly(*_: object) -> None:
        begun.set()
        assert ends.wait(10)

    monkeypatch.setattr(Room, "make", make_slowly)
    fetching = asyncio.create_task(_fetched(cache, os.urandom(MIB)))
    await asyncio.to_thread(begun.wait, 10)
    fetching.cancel()
    await asyncio.wait([fetching], timeout=0.2)
    with (cache.folder / "room.lock").open() as lock:
        assert not try_lock(lock.fileno())
        ends.set()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        assert try_lock(lock.fileno())


async def test_a_full_disk_is_told_from_a_broken_one(make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache()
    for number, code in ((28, "disk_full"), (5, "disk_failed")):

        def fail(*_: object, number: int = number) -> int:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as broken:
            broken.setattr(os, "pwrite", fail)
            with pytest.raises(CacheFailed, match="cannot be used") as caught:
                await _fetched(cache, os.urandom(MIB))
        assert caught.value.code == code

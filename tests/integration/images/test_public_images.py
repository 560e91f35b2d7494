"""Which images' names may be told: those that came from where anybody may have them, as long as they are here."""

import os
import time
from pathlib import Path

import pytest

from launcher.images import Address, CacheFolder, Image, ImageCache, Mirrors
from tests.integration.images.conftest import MakeCache
from tests.integration.images.servers import ImageServer, image_of, serving

MIB = 1 << 20
CONTENT = os.urandom(MIB)
IMAGE = image_of(CONTENT, "raw")


async def bring(cache: ImageCache, content: bytes, *, is_foreign: bool) -> Image:
    image = image_of(content, "raw")
    async with serving(ImageServer(content)) as (session, url):
        with await cache.fetch(image, Address(session, url, is_foreign=is_foreign)):
            return image


def public(cache: ImageCache, most: int = 64) -> list[str]:
    return CacheFolder(cache.folder).public_digests(most)


def note_of(cache: ImageCache, image: Image) -> Path:
    return cache.own_folder / f"{image.file_name}.public"


def age(path: Path, seconds: int) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


async def test_an_owners_image_may_be_told_and_the_brokers_never(cache: ImageCache) -> None:
    await bring(cache, b"private" * 100, is_foreign=False)
    assert public(cache) == []
    image = await bring(cache, CONTENT, is_foreign=True)
    assert public(cache) == [image.digest]


async def test_a_mirrors_image_may_be_told(make_cache: MakeCache) -> None:
    mirror, broker = ImageServer(CONTENT), ImageServer(CONTENT)
    async with serving(mirror) as (session, mirrors_url), serving(broker) as (brokers, url):
        cache = make_cache(mirrors=Mirrors([f"{mirrors_url.removesuffix('image')}mirror"], session))
        with await cache.fetch(IMAGE, Address(brokers, url)):
            assert public(cache) == [IMAGE.digest]
    assert not broker.asked


async def test_what_an_earlier_launcher_had_from_the_broker_is_no_mirrors_word(make_cache: MakeCache) -> None:
    mirror = ImageServer(CONTENT)
    async with serving(mirror) as (session, mirrors_url), serving(ImageServer(CONTENT)) as (brokers, url):
        cache = make_cache(mirrors=Mirrors([f"{mirrors_url.removesuffix('image')}mirror"], session))
        # As a launcher leaves it that is killed between the last byte and the name.
        (cache.own_folder / f"{IMAGE.file_name}.{IMAGE.size_bytes}.part").write_bytes(CONTENT)
        with await cache.fetch(IMAGE, Address(brokers, url)):
            assert public(cache) == []
    assert not mirror.asked


async def test_those_last_used_are_told_first_and_no_more_than_are_wanted(cache: ImageCache) -> None:
    images = [await bring(cache, bytes([number]) * 1_000, is_foreign=True) for number in range(3)]
    for image, seconds in zip(images, (100, 300, 200), strict=True):
        for path in (cache.folder / image.file_name, cache.own_folder / f"{image.file_name}.used"):
            age(path, seconds)
    assert public(cache, 2) == [images[0].digest, images[2].digest]


async def test_an_evicted_image_takes_its_note_along(make_cache: MakeCache) -> None:
    cache = make_cache(limit_mib=5)
    first = await bring(cache, os.urandom(3 * MIB), is_foreign=True)
    second = await bring(cache, os.urandom(3 * MIB), is_foreign=True)
    assert public(cache) == [second.digest]
    assert not note_of(cache, first).exists()


async def test_the_note_of_an_image_that_was_removed_by_hand_tells_nothing_and_goes(make_cache: MakeCache) -> None:
    cache = make_cache()
    image = await bring(cache, CONTENT, is_foreign=True)
    kept = await bring(cache, b"kept" * 100, is_foreign=True)
    for each in (image, kept):
        age(note_of(cache, each), 2 * 86_400)
    (cache.folder / image.file_name).unlink()
    assert public(cache) == [kept.digest]
    make_cache()
    assert not note_of(cache, image).exists()
    assert note_of(cache, kept).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes another account's folder")
async def test_another_accounts_note_counts_in_a_folder_that_is_really_its_own(cache: ImageCache) -> None:
    image = await bring(cache, CONTENT, is_foreign=False)
    theirs = cache.folder / "own-65534"
    theirs.mkdir()
    (theirs / f"{image.file_name}.public").touch()
    assert public(cache) == []
    os.chown(theirs, 65_534, 65_534)
    assert public(cache) == [image.digest]

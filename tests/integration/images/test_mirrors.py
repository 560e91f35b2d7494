"""The site's mirrors: asked first, believed never."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.images import Address, Mirrors
from tests.integration.images.conftest import MakeCache
from tests.integration.images.servers import ImageServer, image_of, serving

CONTENT = os.urandom(3 << 20)
IMAGE = image_of(CONTENT, "raw")
WRONG = bytes(3 << 20)


def _refused(server: ImageServer) -> None:
    server.refuses = {f"/mirror/{IMAGE.file_name}": 404}


def _lying(server: ImageServer) -> None:
    server.content = WRONG


def _shortened(server: ImageServer) -> None:
    server.content = CONTENT[:-1]


def _cut(server: ImageServer) -> None:
    server.cuts = 1_000
    server.cut_bytes = 100_000


async def test_an_image_comes_from_the_first_mirror_that_has_it(make_cache: MakeCache) -> None:
    mirror, broker = ImageServer(CONTENT), ImageServer(CONTENT)
    async with serving(mirror) as (session, mirrors_url), serving(broker) as (brokers, url):
        base = mirrors_url.removesuffix("image")
        missing = "file:///nowhere/images"
        cache = make_cache(mirrors=Mirrors([missing, f"{base}mirror/"], session))
        with await cache.fetch(IMAGE, Address(brokers, url)) as held:
            assert held.path.read_bytes() == CONTENT
    assert mirror.asked == [(f"/mirror/{IMAGE.file_name}", None)]
    assert not broker.asked


@pytest.mark.parametrize("spoil", [_refused, _lying, _shortened, _cut])
async def test_a_mirror_that_fails_or_lies_is_passed_over(
    make_cache: MakeCache, spoil: Callable[[ImageServer], None]
) -> None:
    mirror, broker = ImageServer(CONTENT), ImageServer(CONTENT)
    spoil(mirror)
    async with serving(mirror) as (session, mirrors_url), serving(broker) as (brokers, url):
        cache = make_cache(mirrors=Mirrors([f"{mirrors_url.removesuffix('image')}mirror"], session))
        with await cache.fetch(IMAGE, Address(brokers, url)) as held:
            assert held.path.read_bytes() == CONTENT
    assert mirror.asked
    assert broker.asked


async def test_what_a_mirror_of_two_brought_before_it_broke_is_not_asked_for_again(make_cache: MakeCache) -> None:
    mirror, broker = ImageServer(CONTENT, cuts=1_000, cut_bytes=1 << 20), ImageServer(CONTENT)
    mirror.refuses_after_cut = 404
    async with serving(mirror) as (session, mirrors_url), serving(broker) as (brokers, url):
        cache = make_cache(mirrors=Mirrors([mirrors_url.removesuffix("image")], session))
        with await cache.fetch(IMAGE, Address(brokers, url)) as held:
            assert held.path.read_bytes() == CONTENT
    (asked,) = broker.ranges
    assert asked is not None


async def test_a_mirror_that_drips_is_passed_over(make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.images.download._PACE_S", 0.2)
    mirror, broker = ImageServer(CONTENT, drips=True), ImageServer(CONTENT)
    async with serving(mirror) as (session, mirrors_url), serving(broker) as (brokers, url), asyncio.timeout(20):
        cache = make_cache(mirrors=Mirrors([mirrors_url.removesuffix("image")], session))
        with await cache.fetch(IMAGE, Address(brokers, url)) as held:
            assert held.path.read_bytes() == CONTENT
    assert len(mirror.asked) == len(broker.asked) == 1


@pytest.mark.parametrize(("content", "is_used"), [(CONTENT, True), (WRONG, False), (CONTENT[:-1], False)])
async def test_a_folder_is_a_mirror_whose_files_are_copied(
    make_cache: MakeCache, open_path: Path, content: bytes, is_used: bool
) -> None:
    folder = open_path / "site's images"
    folder.mkdir()
    (folder / IMAGE.file_name).write_bytes(content)
    broker = ImageServer(CONTENT)
    async with serving(broker) as (brokers, url):
        cache = make_cache(mirrors=Mirrors([folder.as_uri()]))
        with await cache.fetch(IMAGE, Address(brokers, url)) as held:
            assert held.path == cache.folder / IMAGE.file_name
            assert held.path.read_bytes() == CONTENT
    assert bool(broker.asked) is not is_used


@pytest.mark.parametrize(("content", "is_used"), [(CONTENT, True), (WRONG, False)])
async def test_a_file_on_a_read_only_file_system_is_used_where_it_is_once_its_digest_was_checked(
    make_cache: MakeCache, open_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, is_used: bool
) -> None:
    folder = open_path / "mirror"
    folder.mkdir()
    (folder / IMAGE.file_name).write_bytes(content)
    # A mount needs rights that a test has not everywhere; what the kernel would say of it is all that differs.
    monkeypatch.setattr("launcher.images.sources._is_read_only", lambda path: path == folder)
    broker = ImageServer(CONTENT)
    async with serving(broker) as (brokers, url):
        cache = make_cache(mirrors=Mirrors([folder.as_uri()]))
        with await cache.fetch(IMAGE, Address(brokers, url)) as held:
            assert held.path == (folder if is_used else cache.folder) / IMAGE.file_name
    assert bool(broker.asked) is not is_used

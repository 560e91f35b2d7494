"""Downloads that do not go well."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from broker.client.session import Unreachable
from launcher.images import Address, BadImage, ImageCache, ImageRefused, ImageUnavailable
from tests.integration.images.servers import ImageServer, image_of, qcow2, serving

NINE_MIB = os.urandom(9 << 20)
RAW = image_of(NINE_MIB, "raw")


async def test_a_download_that_was_cut_three_times_goes_on_where_it_stopped_each_time(
    cache: ImageCache,
) -> None:
    server = ImageServer(NINE_MIB, cuts=3, cut_bytes=2 << 20, etag='"1"')
    async with serving(server) as (session, url):
        with await cache.fetch(RAW, Address(session, url)) as held:
            assert held.path.read_bytes() == NINE_MIB
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) for wanted in server.ranges[1:] if wanted]
    assert server.ranges[0] is None
    assert len(starts) == 3
    assert starts == sorted(set(starts))


async def test_a_source_that_breaks_often_and_gets_on_is_followed_to_the_end(
    cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of what was sent before a connection broke, the last that nobody has read yet is lost.
    monkeypatch.setattr("launcher.images.download._PROGRESS_BYTES", 1 << 18)
    server = ImageServer(NINE_MIB, cuts=7)
    async with serving(server) as (session, url):
        with await cache.fetch(RAW, Address(session, url)) as held:
            assert held.path.read_bytes() == NINE_MIB


async def test_a_server_that_gives_no_ranges_is_asked_for_the_whole(cache: ImageCache) -> None:
    server = ImageServer(NINE_MIB, cuts=2, honours_ranges=False)
    async with serving(server) as (session, url):
        with await cache.fetch(RAW, Address(session, url)) as held:
            assert held.path.read_bytes() == NINE_MIB
    assert len(server.asked) == 3


async def test_bytes_that_changed_at_the_source_meanwhile_are_not_mixed(cache: ImageCache) -> None:
    server = ImageServer(os.urandom(9 << 20), cuts=1, cut_bytes=2 << 20, etag='"old"')
    server.next_content = (NINE_MIB, '"new"')
    async with serving(server) as (session, url):
        with await cache.fetch(RAW, Address(session, url)) as held:
            assert held.path.read_bytes() == NINE_MIB
    assert len(server.asked) == 2


async def test_a_launcher_goes_on_with_what_an_earlier_one_left(cache: ImageCache) -> None:
    server = ImageServer(NINE_MIB)
    (cache.folder / f"own-{os.geteuid()}" / f"{RAW.file_name}.{RAW.size_bytes}.part").write_bytes(NINE_MIB[: 5 << 20])
    async with serving(server) as (session, url):
        with await cache.fetch(RAW, Address(session, url)) as held:
            assert held.path.read_bytes() == NINE_MIB
    assert server.ranges == [f"bytes={5 << 20}-"]


@pytest.mark.parametrize("left", [os.urandom(3 << 20), os.urandom(9 << 20), os.urandom(12 << 20)], ids=len)
async def test_a_wrong_beginning_that_was_left_is_given_up_and_no_source_blamed(cache: ImageCache, left: bytes) -> None:
    server = ImageServer(NINE_MIB)
    (cache.folder / f"own-{os.geteuid()}" / f"{RAW.file_name}.{RAW.size_bytes}.part").write_bytes(left)
    async with serving(server) as (session, url):
        with await cache.fetch(RAW, Address(session, url)) as held:
            assert held.path.read_bytes() == NINE_MIB


async def test_an_image_with_other_bytes_than_named_is_refused_and_not_kept(cache: ImageCache, tmp_path: Path) -> None:
    server = ImageServer(qcow2(tmp_path))
    other = image_of(b"other")._replace(size_bytes=len(server.content))
    async with serving(server) as (session, url):
        with pytest.raises(BadImage, match=r"is damaged where it is kept: .* gives bytes whose digest is sha256:"):
            await cache.fetch(other, Address(session, url))
    assert not [path for path in cache.folder.rglob("*") if path.is_file() and path.stat().st_size]


async def test_an_address_whose_signature_is_over_is_signed_anew(cache: ImageCache) -> None:
    server = ImageServer(NINE_MIB, cuts=1, cut_bytes=2 << 20)
    async with serving(server) as (session, url):

        async def renew() -> str:
            return f"{url}-fresh"

        server.refuses["/image"] = 403
        with await cache.fetch(RAW, Address(session, url, renew=renew)) as held:
            assert held.path.read_bytes() == NINE_MIB
    assert [path for path, _ in server.asked] == ["/image", "/image-fresh", "/image-fresh"]


async def _no_address() -> str:
    raise Unreachable("the broker no longer knows the dispatch by its key", is_lasting=True)


@pytest.mark.parametrize(
    ("status", "is_foreign", "renew", "error", "sentence"),
    [
        (404, True, None, ImageRefused, r"the machine's image .* cannot be had: .* answered 404"),
        (403, True, None, ImageRefused, r"cannot be had: .* answered 403"),
        (410, False, None, ImageUnavailable, r"could not be downloaded: .* answered 410"),
        (403, False, _no_address, ImageUnavailable, "no fresh address for the image could be had"),
    ],
)
async def test_a_refusal_is_the_machines_fault_at_its_owners_address_and_nobodys_at_the_brokers(
    cache: ImageCache,
    status: int,
    is_foreign: bool,
    renew: Callable[[], Awaitable[str]] | None,
    error: type[Exception],
    sentence: str,
) -> None:
    server = ImageServer(NINE_MIB, refuses={"/image": status})
    async with serving(server) as (session, url):
        with pytest.raises(error, match=sentence):
            await cache.fetch(RAW, Address(session, url, is_foreign=is_foreign, renew=renew))


async def test_a_source_that_is_away_is_nobodys_fault_and_what_came_is_kept(cache: ImageCache) -> None:
    server = ImageServer(NINE_MIB, cuts=1_000, cut_bytes=0)
    part = cache.folder / f"own-{os.geteuid()}" / f"{RAW.file_name}.{RAW.size_bytes}.part"
    part.write_bytes(NINE_MIB[: 5 << 20])
    async with serving(server) as (session, url):
        with pytest.raises(ImageUnavailable, match="could not be downloaded"):
            await cache.fetch(RAW, Address(session, url, is_foreign=True))
    assert len(server.asked) == 5
    assert part.read_bytes() == NINE_MIB[: 5 << 20]

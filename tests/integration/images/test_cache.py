"""The image cache against a real HTTP server and real qcow2 files."""

import asyncio
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from launcher.images import Address, BadImage, ImageCache
from launcher.images.verified import digest_of
from tests.integration.images.conftest import MakeCache
from tests.integration.images.servers import ImageServer, image_of, qcow2, serving
from tests.support.waiting import until


async def test_vms_and_launchers_that_want_one_image_at_a_time_share_one_download(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    caches = [make_cache() for _ in range(3)]
    server = ImageServer(qcow2(tmp_path))
    async with serving(server) as (session, url):
        address = Address(session, url)
        held = await asyncio.gather(*(cache.fetch(image_of(server.content), address) for cache in caches * 3))
        with ExitStack() as stack:
            (path,) = {stack.enter_context(one).path for one in held}
            assert path.read_bytes() == server.content
            assert path.stat().st_mode & 0o777 == 0o444
    assert server.ranges == [None]


async def test_processes_that_want_one_image_at_a_time_share_one_download(open_path: Path) -> None:
    server = ImageServer(qcow2(open_path))
    image = image_of(server.content)
    async with serving(server) as (_, url):
        arguments = (str(open_path / "cache"), str(open_path / "memory"), url, image.digest, str(image.size_bytes))
        launchers = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.integration.images.one_launcher", "0", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(3)
        ]
        said = {(await launcher.communicate())[0].decode().splitlines()[-1] for launcher in launchers}
    assert said == {f"{open_path}/cache/{image.file_name}"}
    assert server.ranges == [None]


async def test_a_waiting_vm_goes_on_with_the_download_of_one_that_was_ended(cache: ImageCache, tmp_path: Path) -> None:
    server = ImageServer(qcow2(tmp_path), cuts=1)
    image = image_of(server.content)
    async with serving(server) as (session, url):
        first = asyncio.create_task(cache.fetch(image, Address(session, url)))
        second = asyncio.create_task(cache.fetch(image, Address(session, url)))
        await until(server.was_asked, "the first request")
        first.cancel()
        with await second as held:
            assert held.path.read_bytes() == server.content
    assert first.cancelled()


async def test_a_kept_image_that_lost_its_end_is_downloaded_anew(cache: ImageCache, tmp_path: Path) -> None:
    server = ImageServer(qcow2(tmp_path))
    async with serving(server) as (session, url):
        image = image_of(server.content)
        with await cache.fetch(image, Address(session, url)) as held:
            path = held.path
        path.chmod(0o644)
        os.truncate(path, 1 << 20)
        with await cache.fetch(image, Address(session, url)) as held:
            assert held.path == path
    assert path.read_bytes() == server.content
    assert path.stat().st_mode & 0o777 == 0o444


async def test_a_wrong_size_in_a_request_costs_nobody_the_kept_image(cache: ImageCache, tmp_path: Path) -> None:
    server = ImageServer(qcow2(tmp_path))
    async with serving(server) as (session, url):
        image = image_of(server.content)
        with await cache.fetch(image, Address(session, url)) as held:
            path = held.path
        with pytest.raises(BadImage, match="has not the 1000000000 bytes that were named"):
            await cache.fetch(image._replace(size_bytes=1_000_000_000), Address(session, url))
    assert path.read_bytes() == server.content


async def test_an_image_is_on_disk_before_it_has_its_name(
    cache: ImageCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink()))
    server = ImageServer(qcow2(tmp_path))
    async with serving(server) as (session, url):
        with await cache.fetch(image_of(server.content), Address(session, url)):
            pass
    assert [path.suffix or path.name for path in synced] == [".part", "cache"]


async def test_an_image_is_hashed_once_and_again_when_it_was_touched(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []

    async def digest_noted(descriptor: int) -> str:
        hashed.append(descriptor)
        return await digest_of(descriptor)

    monkeypatch.setattr("launcher.images.cache.digest_of", digest_noted)
    server = ImageServer(qcow2(tmp_path))
    image = image_of(server.content)
    async with serving(server) as (session, url):
        for memory, times in (("memory", 0), ("memory", 0), ("other", 1), ("other", 1)):
            with await make_cache(memory=memory).fetch(image, Address(session, url)):
                assert len(hashed) == times
        (make_cache().folder / image.file_name).touch()
        with await make_cache().fetch(image, Address(session, url)):
            pass
        assert len(hashed) == 2
    assert server.ranges == [None]

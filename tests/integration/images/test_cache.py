"""The image cache against a real HTTP server and real qcow2 files."""

import asyncio
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.client.session import Session
from launcher.images import BadImage, ImageCache, ImageUnavailable, Source, make_overlay


class ImageServer:
    """Serves one file, with ranges; `cuts` connections are broken after half of what was asked."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.cuts = 0
        self.requests: list[str | None] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        wanted = request.headers.get("Range")
        self.requests.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = self.content[start:]
        response = web.StreamResponse(status=206 if wanted else 200, headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        if self.cuts:
            self.cuts -= 1
            await response.write(body[: len(body) // 2])
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(body)
        return response


@asynccontextmanager
async def serving(server: ImageServer) -> AsyncIterator[tuple[Session, str]]:
    application = web.Application()
    application.router.add_get("/image", server.answer)
    async with TestServer(application) as http, Session(str(http.make_url("/"))) as session:
        yield session, str(http.make_url("/image"))


def qcow2(folder: Path) -> bytes:
    path = folder / "made.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", str(path), "16M")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 2M", str(path)], check=True, capture_output=True)
    return path.read_bytes()


def qemu_img(*arguments: str) -> None:
    subprocess.run(["qemu-img", *arguments], check=True)


def source_of(content: bytes, url: str, **other: str) -> Source:
    digest = other.get("digest", f"sha256:{hashlib.sha256(content).hexdigest()}")
    return Source(digest, len(content), other.get("format", "qcow2"), url)


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    cache = ImageCache(tmp_path / "cache")
    cache.prepare()
    return cache


async def test_vms_that_want_one_image_at_a_time_share_one_download(cache: ImageCache, tmp_path: Path) -> None:
    server = ImageServer(qcow2(tmp_path))
    async with serving(server) as (session, url):
        source = source_of(server.content, url)
        paths = await asyncio.gather(*(cache.fetch(session, source) for _ in range(5)))
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == server.content
    assert paths[0].stat().st_mode & 0o777 == 0o444
    assert len(server.requests) == 1


async def test_a_download_that_was_cut_goes_on_where_it_stopped(
    cache: ImageCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.images.download._PAUSE_S", 0.01)
    server = ImageServer(qcow2(tmp_path))
    server.cuts = 3
    async with serving(server) as (session, url):
        path = await cache.fetch(session, source_of(server.content, url))
    assert path.read_bytes() == server.content
    assert server.requests[0] is None
    assert len(server.requests) == 4
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) for wanted in server.requests[1:] if wanted]
    assert starts == sorted(starts)
    assert 0 < starts[0] < len(server.content)


async def test_an_image_with_other_bytes_than_named_is_refused_and_not_kept(cache: ImageCache, tmp_path: Path) -> None:
    server = ImageServer(qcow2(tmp_path))
    other = f"sha256:{hashlib.sha256(b'other').hexdigest()}"
    async with serving(server) as (session, url):
        with pytest.raises(BadImage, match="is damaged where it is kept: its bytes are sha256:"):
            await cache.fetch(session, source_of(server.content, url, digest=other))
    assert not list(cache.folder.glob("sha256-*[!k]"))


async def test_an_image_that_reads_another_file_is_refused(cache: ImageCache, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 65_536)
    backed = tmp_path / "backed.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(tmp_path / "secret"), str(backed))
    server = ImageServer(backed.read_bytes())
    async with serving(server) as (session, url):
        with pytest.raises(BadImage, match="needs a backing file; flatten it"):
            await cache.fetch(session, source_of(server.content, url))
        with pytest.raises(BadImage, match="is no qcow2 disk image"):
            await cache.fetch(session, source_of(b"", url)._replace(size_bytes=0))
    assert not [path for path in cache.folder.iterdir() if path.suffix != ".lock"]


async def test_bytes_that_are_harmless_raw_are_refused_to_a_machine_that_has_them_read_another_file(
    cache: ImageCache, tmp_path: Path
) -> None:
    backed = tmp_path / "backed.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/passwd", str(backed), "16M")
    server = ImageServer(backed.read_bytes())
    async with serving(server) as (session, url):
        path = await cache.fetch(session, source_of(server.content, url, format="raw"))
        for _ in range(2):
            with pytest.raises(BadImage, match="needs a backing file; flatten it"):
                await cache.fetch(session, source_of(server.content, url, format="qcow2"))
        assert await cache.fetch(session, source_of(server.content, url, format="raw")) == path
    assert len(server.requests) == 1


async def test_a_kept_image_that_lost_its_end_is_downloaded_anew(cache: ImageCache, tmp_path: Path) -> None:
    server = ImageServer(qcow2(tmp_path))
    async with serving(server) as (session, url):
        source = source_of(server.content, url)
        path = await cache.fetch(session, source)
        path.chmod(0o644)
        os.truncate(path, 1 << 20)
        assert await cache.fetch(session, source) == path
    assert path.read_bytes() == server.content
    assert path.stat().st_mode & 0o777 == 0o444


async def test_a_wrong_size_in_a_request_costs_nobody_the_kept_image(cache: ImageCache, tmp_path: Path) -> None:
    server = ImageServer(qcow2(tmp_path))
    async with serving(server) as (session, url):
        source = source_of(server.content, url)
        path = await cache.fetch(session, source)
        with pytest.raises(BadImage, match="has not the 1000000000 bytes that were named"):
            await cache.fetch(session, source._replace(size_bytes=1_000_000_000))
    assert path.read_bytes() == server.content


async def test_an_image_is_on_disk_before_it_has_its_name(
    cache: ImageCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(str(Path(f"/proc/self/fd/{number}").readlink())))
    server = ImageServer(qcow2(tmp_path))
    async with serving(server) as (session, url):
        path = await cache.fetch(session, source_of(server.content, url))
    assert synced == [str(path.with_suffix(".part")), str(cache.folder)]


async def test_a_source_that_has_no_such_image_is_told_from_a_bad_image(cache: ImageCache, tmp_path: Path) -> None:
    server = ImageServer(qcow2(tmp_path))
    async with serving(server) as (session, url):
        with pytest.raises(ImageUnavailable, match=r"could not be downloaded: .* answered 404"):
            await cache.fetch(session, source_of(server.content, f"{url}-gone"))


async def test_an_overlay_takes_no_copy_of_the_image(cache: ImageCache, tmp_path: Path) -> None:
    server = ImageServer(qcow2(tmp_path))
    async with serving(server) as (session, url):
        path = await cache.fetch(session, source_of(server.content, url))
    overlay = tmp_path / "overlay.qcow2"
    await make_overlay(overlay, path, "qcow2")
    assert overlay.stat().st_blocks * 512 <= 1 << 20
    qemu_img("compare", "-q", str(overlay), str(path))

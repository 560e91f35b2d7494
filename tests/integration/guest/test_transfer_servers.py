"""Transfers with the servers that researchers have, real ones, and ways to them that break."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from yarl import URL

from broker.client.download import Download, fetch
from broker.client.errors import CallError, Unreachable
from broker.client.repetition import repeated
from broker.client.session import Patience, Session
from broker.client.transfer import RepeatJudge, Upload, put
from broker.wire.leases import SignedUrl
from tests.support.cuttable import CuttableWay
from tests.support.misbehaving import field, head, misbehaving
from tests.support.web_servers import nginx, webdav

CONTENT = bytes(range(256)) * 20_480
DIGEST = hashlib.sha256(CONTENT)
AT_ONCE = Patience(attempts=5, first_delay_s=0.01, max_delay_s=0.01)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("nginx")
    with nginx(folder) as url:
        yield url, folder / "files"


@pytest.fixture(scope="module")
def dav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("dav")
    with webdav(folder) as url:
        yield url, folder


async def put_once(url: str, path: Path, *folders: str) -> None:
    path.write_bytes(CONTENT)
    signed = SignedUrl(url=url, target=url, method="PUT", folders=list(folders))
    async with Session(url) as session:
        with path.open("rb") as file:
            await put(session, signed, Upload(file, len(CONTENT), DIGEST.digest()), may_be_ours=False)


async def test_nginx_resumes_what_was_cut_and_takes_what_is_put(plain: tuple[str, Path], tmp_path: Path) -> None:
    url, files = plain
    await put_once(f"{url}/new/out", tmp_path / "out")
    assert (files / "new/out").read_bytes() == CONTENT

    way = CuttableWay(URL(url).port or 0, breaks=[1_000_000, 2_000_000])
    way.mend()
    download, lowest = Download(tmp_path / "in"), []
    address = f"http://127.0.0.1:{way.port}/new/out"
    async with Session(address) as session:

        async def once() -> str:
            lowest.append(download.arrived_bytes)
            return (await download.go_on(session, SignedUrl(url=address, target=address))).digest

        assert await repeated(once, AT_ONCE, RepeatJudge()) == f"sha256:{DIGEST.hexdigest()}"
    way.cut()

    assert (tmp_path / "in").read_bytes() == CONTENT
    assert lowest == sorted(set(lowest))
    assert (way.broken, len(lowest)) == (2, 3)


async def test_webdav_makes_the_folders_that_an_output_needs(dav: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = dav
    for name in ("one", "two"):
        await put_once(f"{url}/a/b/{name}", tmp_path / name, f"{url}/a/", f"{url}/a/b/")
    assert (folder / "a/b/two").read_bytes() == CONTENT

    async with Session(url) as session:
        facts = await fetch(session, SignedUrl(url=f"{url}/a/b/one", target=url), tmp_path / "in")
    assert facts == (len(CONTENT), f"sha256:{DIGEST.hexdigest()}")

    with pytest.raises(Unreachable, match="the one above it is not there"):
        await put_once(f"{url}/x/y/z", tmp_path / "three", f"{url}/x/y/")
    with pytest.raises(CallError, match="412"):
        await put_once(f"{url}/a/b/one", tmp_path / "four")


async def test_what_a_cut_left_at_the_target_is_replaced_and_never_taken_for_the_output(
    dav: tuple[str, Path], tmp_path: Path
) -> None:
    # wsgidav writes in place: a cut leaves the first part under the target's name.
    url, folder = dav
    (folder / "cut").write_bytes(CONTENT[:100_000])
    (tmp_path / "out").write_bytes(CONTENT)
    signed = SignedUrl(url=f"{url}/cut", target=url, method="PUT")
    async with Session(url) as session:
        with (tmp_path / "out").open("rb") as file:
            upload = Upload(file, len(CONTENT), DIGEST.digest())
            with pytest.raises(CallError, match="412"):
                await put(session, signed, upload, may_be_ours=False)
            assert (folder / "cut").stat().st_size == 100_000
            for _ in range(2):
                await put(session, signed, upload, may_be_ours=True)
                assert (folder / "cut").read_bytes() == CONTENT


async def test_asking_what_is_there_announces_no_body(tmp_path: Path) -> None:
    asked: list[str] = []

    async def refuses(request: str, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(request)
        writer.write(head("412 Precondition Failed" if request.startswith("PUT") else "403 Forbidden"))

    (tmp_path / "out").write_bytes(b"four")
    async with misbehaving(refuses) as url, Session(url) as session:
        headers = {"If-None-Match": "*", "Content-Length": "4", "x-amz-checksum-sha256": "x", "X-Key": "k"}
        signed = SignedUrl(url=f"{url}/b/k", target="s3://b/k", method="PUT", headers=headers)
        with (tmp_path / "out").open("rb") as file:
            upload = Upload(file, 4, hashlib.sha256(b"four").digest())
            await put(session, signed, upload, may_be_ours=True)
    assert asked[-1].startswith("HEAD")
    names = ("Content-Length", "If-None-Match", "x-amz-checksum-sha256", "X-Key")
    assert [field(asked[-1], name) for name in names] == [None, None, None, "k"]

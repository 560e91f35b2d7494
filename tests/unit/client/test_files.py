import base64
import fcntl
import hashlib
from pathlib import Path

import pytest
from aiohttp import web

from broker.client.downloads import BLOCK_BYTES, Busy, Known, PartFile
from broker.client.errors import Unreachable
from broker.client.files import DownloadDiffers, Files
from broker.client.session import Session
from broker.wire.names import check_digest
from tests.support.api import digest_of
from tests.unit.client.test_session import answers, serving

CONTENT = b"the bytes"


def field(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


async def download(path: Path, **headers: str) -> None:
    _, handler = answers(web.Response(body=CONTENT, headers=headers))
    async with serving(handler) as url, Session(url) as session:
        await Files(session).get_file("/v1/files/alice/x", path, None)


async def test_a_download_is_checked_by_the_digest_that_comes_with_it(tmp_path: Path) -> None:
    await download(tmp_path / "good", **{"Repr-Digest": f"md5=:AAAA:, {field(CONTENT)}"})

    assert (tmp_path / "good").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("announced", "sentence"),
    [
        (field(b"other bytes"), "the broker named sha256:"),
        ("", "was sent without a SHA-256 to check it by"),
        ("sha-256=:junk:", "was sent without a SHA-256 to check it by"),
    ],
)
async def test_what_is_not_as_announced_is_not_kept(tmp_path: Path, announced: str, sentence: str) -> None:
    with pytest.raises(DownloadDiffers, match=sentence):
        await download(tmp_path / "bad", **({"Repr-Digest": announced} if announced else {}))

    assert list(tmp_path.iterdir()) == []


async def test_a_name_as_long_as_the_disk_takes_can_be_downloaded(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)

    await download(path, **{"Repr-Digest": field(CONTENT)})

    assert [file.name for file in tmp_path.iterdir()] == [path.name]


async def test_what_goes_wrong_with_a_shared_address_does_not_tell_its_signature(tmp_path: Path) -> None:
    def answer(request: web.Request) -> web.Response:
        known = {"Repr-Digest": field(CONTENT), "Accept-Ranges": "bytes", "Content-Length": str(BLOCK_BYTES + 1)}
        return web.Response(headers=known) if request.method == "HEAD" else web.Response(body=CONTENT)

    async with serving(answer) as url, Session(url) as session:
        with pytest.raises(Unreachable, match="was asked for a range") as failed:
            await Files(session).get_file(f"{url}/v1/files/alice/x?signature=known", tmp_path / "x", None)

    assert "known" not in str(failed.value)


def test_a_part_that_became_the_target_before_it_was_locked_is_nobodys_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Known(check_digest(digest_of(b"whole")), 5)
    part = PartFile(tmp_path, known)
    real = fcntl.flock

    def late(descriptor: int, flags: int) -> None:
        part.path.rename(tmp_path / "target")
        real(descriptor, flags)

    monkeypatch.setattr(fcntl, "flock", late)

    with pytest.raises(Busy), part:
        pass
    assert (tmp_path / "target").stat().st_size == 0

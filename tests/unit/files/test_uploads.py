import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.domain.errors import Conflict, Rejected, Unavailable
from broker.files.free_space import FreeSpace
from broker.files.uploads import ABANDONED_S, Uploads
from broker.wire.names import UserName
from tests.support.api import digest_of

ALICE = UserName("alice")
CONTENT = b"0123456789"


def opened(folder: Path, floor_bytes: int = 0) -> Uploads:
    return Uploads(folder, limit_bytes=1_000, most_open=2, space=FreeSpace(folder, floor_bytes=floor_bytes))


async def begin(uploads: Uploads) -> str:
    return (await uploads.begin(ALICE, digest_of(CONTENT), len(CONTENT), resume=True)).upload  # type: ignore[arg-type] # a digest


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_what_got_no_byte_for_a_day_is_removed_unless_somebody_has_it(tmp_path: Path) -> None:
    uploads = opened(tmp_path)
    upload = await begin(uploads)
    [part] = tmp_path.rglob("*.part")
    old_s = part.stat().st_mtime - ABANDONED_S - 60
    assert await uploads.clear_abandoned() == 0
    os.utime(part, (old_s, old_s))

    async with uploads.taken(ALICE, upload):
        assert await uploads.clear_abandoned() == 0
    assert await uploads.clear_abandoned() == 1

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_a_restarted_broker_proves_bytes_that_another_took_in(tmp_path: Path) -> None:
    first = opened(tmp_path)
    upload = await begin(first)
    async with first.taken(ALICE, upload) as taken:
        await taken.append(pieces(CONTENT[:4], CONTENT[4:7]), None)
    second = opened(tmp_path)

    async with second.taken(ALICE, upload) as taken:
        assert taken.offset_bytes == 7
        await taken.append(pieces(CONTENT[7:]), None)
        await taken.prove()


async def test_a_disk_that_fills_keeps_what_was_written_and_takes_no_more(tmp_path: Path) -> None:
    upload = await begin(opened(tmp_path))
    full = opened(tmp_path, floor_bytes=1 << 62)

    async with full.taken(ALICE, upload) as taken:
        with pytest.raises(Unavailable) as refused:
            await taken.append(pieces(CONTENT), None)
    with pytest.raises(Unavailable):
        await full.begin(ALICE, digest_of(b"x"), 1, resume=False)  # type: ignore[arg-type] # a digest

    assert refused.value.code == "store_disk_full"
    assert (await full.find(ALICE, upload)).offset_bytes == 0


async def test_one_request_has_an_upload_at_a_time_and_a_removed_one_nobody(tmp_path: Path) -> None:
    uploads, other = opened(tmp_path), opened(tmp_path)
    upload = await begin(uploads)

    async with uploads.taken(ALICE, upload):
        with pytest.raises(Conflict):
            async with other.taken(ALICE, upload):
                pass
    await other.remove(ALICE, upload)

    with pytest.raises(Rejected):
        await uploads.find(ALICE, upload)

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable
from pathlib import Path
from typing import Any

import pytest

from broker.domain.errors import Conflict, Rejected, Unavailable
from broker.files import uploads as uploads_module
from broker.files.free_space import FreeSpace
from broker.files.joining import joined
from broker.files.upload import Hashed, Purpose
from broker.files.upload_folder import Standing
from broker.files.uploads import ABANDONED_S, Uploads, Wanted
from broker.wire.names import UserName, check_digest
from tests.support.api import digest_of
from tests.support.grid import REPOSITORY

ALICE = UserName("alice")
CONTENT = b"0123456789"


def opened(folder: Path, floor_bytes: int = 0) -> Uploads:
    return Uploads(folder, limit_bytes=1_000, most_open=2, space=FreeSpace(folder, floor_bytes=floor_bytes))


async def begin(uploads: Uploads) -> str:
    return (await uploads.begin(ALICE, Wanted(check_digest(digest_of(CONTENT)), len(CONTENT)), resume=True)).upload


WITHOUT_ROOTS_WAY = ("setpriv", "--bounding-set=-dac_override") if os.geteuid() == 0 else ()
_PROVE = """
import asyncio, os, sys
from pathlib import Path
from tests.unit.files.test_uploads import ALICE, opened, pieces

async def prove() -> None:
    async with opened(Path(sys.argv[1])).taken(ALICE, sys.argv[2]) as taken:
        assert not os.access(taken.path, os.W_OK)
        await taken.append(pieces(), None)
        await taken.prove()

asyncio.run(prove())
"""


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


async def test_what_a_broker_left_that_died_in_the_midst_is_removed_and_mixed_with_nothing(tmp_path: Path) -> None:
    uploads = opened(tmp_path)
    upload = await begin(uploads)
    [part], [record] = tmp_path.rglob("*.part"), tmp_path.rglob("*.json")
    record.unlink()
    part.write_bytes(b"stale")
    os.link(part, tmp_path / "object")

    assert await begin(uploads) == upload
    assert (await uploads.find(ALICE, upload)).offset_bytes == 0
    assert (tmp_path / "object").read_bytes() == b"stale"

    left = [part.with_name(name) for name in ("1" * 32 + ".part", "2" * 32 + ".0123456789abcdef", "3" * 32 + ".new")]
    for path in left:
        path.write_bytes(b"left")
    part.rename(left[0])
    await uploads.clear_abandoned()
    assert all(path.exists() for path in (*left, record)), "somebody may be about to"
    for path in (*left, record):
        os.utime(path, (0, part.parent.stat().st_mtime - ABANDONED_S - 60))
    await uploads.clear_abandoned()

    assert [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()] == []


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
        await full.begin(ALICE, Wanted(check_digest(digest_of(b"x")), 1), resume=False)

    assert refused.value.code == "store_disk_full"
    assert (await full.find(ALICE, upload)).offset_bytes == 0


async def test_what_is_announced_counts_before_it_came(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    most_bytes = disk.f_bavail * disk.f_frsize * 6 // 10
    uploads = Uploads(tmp_path, limit_bytes=most_bytes, most_open=2, space=FreeSpace(tmp_path, floor_bytes=0))
    first, second = check_digest(digest_of(b"1")), check_digest(digest_of(b"2"))
    begun = await uploads.begin(ALICE, Wanted(first, most_bytes), resume=True)

    with pytest.raises(Unavailable) as refused:
        await uploads.begin(UserName("bob"), Wanted(second, most_bytes), resume=True)
    assert refused.value.code == "store_disk_full"

    assert await uploads.begin(ALICE, Wanted(first, most_bytes), resume=True) == begun
    await uploads.remove(ALICE, begun.upload)
    await uploads.begin(UserName("bob"), Wanted(second, most_bytes), resume=True)


async def test_a_complete_upload_is_proved_by_a_broker_that_may_not_write_to_it(tmp_path: Path) -> None:
    uploads = opened(tmp_path)
    upload = await begin(uploads)
    async with uploads.taken(ALICE, upload) as taken:
        await taken.append(pieces(CONTENT), None)
    [part] = tmp_path.rglob("*.part")
    part.chmod(0o400)

    command = [*WITHOUT_ROOTS_WAY, sys.executable, "-c", _PROVE, str(tmp_path), upload]
    ended = await asyncio.to_thread(subprocess.run, command, cwd=REPOSITORY, timeout=60, check=False)

    assert ended.returncode == 0


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


async def test_what_one_process_hashed_is_not_taken_for_an_upload_that_another_began_anew(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    upload = await begin(first)
    async with first.taken(ALICE, upload) as taken:
        await taken.append(pieces(b"not these"), None)
    await second.remove(ALICE, upload)
    assert await begin(second) == upload, "the same image has the same upload again"

    async with first.taken(ALICE, upload) as taken:
        assert taken.offset_bytes == 0
        await taken.append(pieces(CONTENT), None)
        await taken.prove()


async def test_a_process_goes_on_with_what_another_took_in_and_remembers_few_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads_module, "_MOST_HASHED", 1)
    first, second = opened(tmp_path), opened(tmp_path)
    upload = await begin(first)
    other = (await first.begin(ALICE, Wanted(check_digest(digest_of(b"other")), 5), resume=True)).upload
    for place, uploads in enumerate([first, second] * 5):
        async with first.taken(ALICE, other):
            pass
        async with uploads.taken(ALICE, upload) as taken:
            await taken.append(pieces(CONTENT[place : place + 1]), None)
            if taken.is_complete:
                await taken.prove()
    assert (await first.find(ALICE, upload)).offset_bytes == len(CONTENT)


async def test_few_files_are_joined_at_once_since_each_keeps_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(tmp_path, limit_bytes=1_000, most_open=16, space=FreeSpace(tmp_path, floor_bytes=0))
    digest, go_on = check_digest(digest_of(CONTENT)), threading.Event()
    parts = []
    for number in range(3):
        begun = await uploads.begin(ALICE, Wanted(digest, 10, Purpose.PART, f"alice/{number}"), resume=True)
        async with uploads.taken(ALICE, begun.upload) as taken:
            await taken.append(pieces(CONTENT), None)
        parts.append(begun.upload)

    def slow(sources: Iterable[Path], target: Path, begun: str) -> Hashed:
        go_on.wait(10.0)
        return joined(sources, target, begun)

    monkeypatch.setattr(uploads_module, "joined", slow)
    monkeypatch.setattr(uploads_module, "_JOIN_WAIT_S", 0.05)

    def join(number: int) -> Coroutine[Any, Any, Standing]:
        return uploads.join(ALICE, Wanted(digest, 0, Purpose.FILE, f"alice/{number}"), parts[number : number + 1])

    under_way = [asyncio.create_task(join(number)) for number in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="send the same again"):
        await join(2)
    go_on.set()

    assert [each.offset_bytes for each in await asyncio.gather(*under_way)] == [10, 10]
    assert (await join(2)).offset_bytes == 10

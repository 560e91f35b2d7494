"""What is promised of files holds wherever their bytes are: in a folder of the broker's disk, or in a bucket."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from broker.domain.errors import Rejected, Unavailable
from broker.domain.paths import parse_file_path
from broker.files import locks, records, s3_objects
from broker.files.source import Chunks
from broker.wire.names import check_digest
from tests.integration.s3.homes import (
    ALICE,
    LIMIT_BYTES,
    OTHER,
    PATH,
    Home,
    facts_of,
    put,
)
from tests.support.api import digest_of
from tests.support.sources import chunks


async def test_a_file_is_as_it_was_put_and_a_replaced_one_leaves_nothing(home: Home) -> None:
    assert await put(home, b"old")
    assert await put(home, b"", OTHER)
    assert not await put(home, b"new")
    assert not await put(home, b"new")

    stored = await home.files.find(PATH)

    assert stored is not None
    assert (stored.size_bytes, stored.digest) == (3, digest_of(b"new"))
    assert (await home.read(PATH), await home.read(OTHER)) == (b"new", b"")
    assert await home.files.find_all({PATH, OTHER, parse_file_path("alice/a")}) == {PATH, OTHER}
    assert home.objects() == 2
    assert home.counted.bytes[ALICE] == 2 * 4_096 + 3 == await home.files.counted(ALICE)
    assert [await home.files.delete(path) for path in (PATH, PATH, OTHER)] == [True, False, True]
    assert home.objects() == 0
    assert home.counted.bytes[ALICE] == 0 == await home.files.counted(ALICE)


async def test_a_file_of_several_parts_comes_back_whole(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_objects, "PART_BYTES", 5 * 1024 * 1024)
    piece = bytes(range(256)) * 2_048

    stored, _ = await home.files.put(
        PATH, chunks(*[piece] * 23), expected=check_digest(digest_of(piece * 23)), create_only=True
    )

    assert stored.size_bytes == 23 * len(piece)
    assert await home.read(PATH) == piece * 23


async def test_who_sends_slowly_to_a_bucket_holds_up_nobody_else(far: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    part = b"p" * 5_242_880  # the least that S3 takes as a part
    monkeypatch.setattr(s3_objects, "PART_BYTES", len(part))
    monkeypatch.setattr(far.files._objects, "_places", asyncio.Semaphore(4))
    goes_on, two_wait, waiting = asyncio.Event(), asyncio.Event(), [0]

    async def slowly() -> AsyncIterator[bytes]:
        yield part
        waiting[0] += 1  # its first part is in memory: it has a place
        if waiting[0] == 2:
            two_wait.set()
        await goes_on.wait()
        yield b"the end"

    async def begin(number: int) -> None:
        path = parse_file_path(f"alice/slow/{number}")
        await far.files.put(path, Chunks(slowly()), expected=None, create_only=False)

    going = [asyncio.create_task(begin(number)) for number in range(6)]
    bobs = parse_file_path("bob/quick")
    async with asyncio.timeout(20):
        await two_wait.wait()
        await asyncio.sleep(0.2)  # so would those have one by now that have to wait for it
        await far.files.put(bobs, chunks(part, b"more"), expected=None, create_only=False)
        assert not any(task.done() for task in going)
        goes_on.set()
        await asyncio.gather(*going)
    assert await far.read(bobs) == part + b"more"


async def test_a_file_that_lies_beside_becomes_one_of_a_users(home: Home, tmp_path: Path) -> None:
    for number in range(3):
        proved = tmp_path / f"proved-{number}"
        proved.write_bytes(b"proved")
        facts = facts_of(b"proved")
        stored, is_new = await home.files.adopt(PATH, proved, *facts[:2], create_only=True)
        assert (stored.digest, is_new) == (facts.digest, number == 0)
    (tmp_path / "other").write_bytes(b"other")
    with pytest.raises(Rejected, match="exists already"):
        await home.files.adopt(PATH, tmp_path / "other", *facts_of(b"other")[:2], create_only=True)

    assert await home.read(PATH) == b"proved"
    assert home.objects() == 1
    home.counted.most = 3 * 4_096 + 6
    await home.files.check_room(ALICE, 2_000, beside_bytes=2_096)
    with pytest.raises(Rejected, match="full"):
        await home.files.check_room(ALICE, 4_096, beside_bytes=4_096)
    assert home.counted.bytes[ALICE] == 4_096 + 6 == await home.files.counted(ALICE)


async def test_what_broke_off_differs_or_is_too_large_leaves_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_objects, "PART_BYTES", 5 * 1024 * 1024)
    large = [b"x" * 1_048_576] * 12
    with pytest.raises(ConnectionResetError):
        await home.files.put(PATH, chunks(*large, broken=True), expected=None, create_only=False)
    with pytest.raises(Rejected, match="announced was"):
        await home.files.put(PATH, chunks(b"a"), expected=check_digest(digest_of(b"b")), create_only=False)
    with pytest.raises(Rejected, match="larger than"):
        await home.files.put(PATH, chunks(*large * 6), expected=None, create_only=False)
    home.counted.most = 7_000_000
    with pytest.raises(Rejected, match="full"):
        await home.files.put(PATH, chunks(*large), expected=None, create_only=False)

    assert await home.files.find(PATH) is None
    assert home.objects() == 0
    assert home.counted.bytes[ALICE] == 0


async def test_of_many_that_create_one_file_one_wins(home: Home) -> None:
    elsewhere = home._replace(files=home.make())

    outcomes = await asyncio.gather(
        *(put(each, bytes([65 + n]), create_only=True) for n in range(4) for each in (home, elsewhere)),
        return_exceptions=True,
    )

    assert outcomes.count(True) == 1
    assert outcomes.count(False) == 1, "the same bytes again are a retry"
    assert sum(isinstance(outcome, Rejected) for outcome in outcomes) == 6
    assert home.objects() == 1


async def test_a_change_is_made_whole_or_not_at_all_when_its_request_is_cancelled(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await put(home, b"old")
    waits = threading.Event()
    real = locks.held

    def noted(folder: Path) -> AbstractContextManager[None]:
        waits.set()
        return real(folder)

    monkeypatch.setattr(records, "held", noted)
    with real(tmp_path / "users/records/alice" / records.hash_of(PATH)[:2]):
        putting = asyncio.create_task(put(home, b"new"))
        await asyncio.to_thread(waits.wait, 10.0)
        putting.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
    await asyncio.wait([putting])

    assert putting.cancelled()
    assert await home.read(PATH) in {b"old", b"new"}
    assert home.counted.bytes[ALICE] == 4_096 + 3 == await home.files.counted(ALICE)


async def test_a_record_that_cannot_be_written_leaves_no_object_and_takes_no_upload(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    proved = tmp_path / "proved"
    proved.write_bytes(b"proved")
    with monkeypatch.context() as patched:
        patched.setattr(records.Records, "write", full)
        for putting in (
            home.files.put(PATH, chunks(b"x"), expected=None, create_only=False),
            home.files.adopt(PATH, proved, *facts_of(b"proved")[:2], create_only=True),
        ):
            with pytest.raises(Unavailable, match="disk"):
                await putting
    assert home.objects() == 0
    assert home.counted.bytes[ALICE] == 0

    await home.files.adopt(PATH, proved, *facts_of(b"proved")[:2], create_only=True)

    assert await home.read(PATH) == b"proved"
    with pytest.raises(Rejected, match="larger than"):
        await home.files.adopt(OTHER, proved, LIMIT_BYTES + 1, check_digest(digest_of(b"proved")), create_only=True)

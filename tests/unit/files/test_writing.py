import asyncio
import errno
import fcntl
import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from broker.files.writing import BLOCK_BYTES, Writing

SIZES = (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5)


async def allow(_: int) -> None:
    """Stand where limits are looked at."""


def pieces_of(content: bytes) -> Iterator[bytes]:
    """Yield it in pieces of a byte, of a packet, and larger than a block."""
    chosen, at = random.Random(len(content)), 0
    while at < len(content):
        size_bytes = chosen.choice((1, 1_448, 262_144, BLOCK_BYTES + 7))
        yield content[at : at + size_bytes]
        at += size_bytes


async def written(path: Path, content: bytes) -> str:
    writing = Writing(path, allow)
    try:
        for piece in pieces_of(content):
            await writing.add(piece)
        return await writing.finish()
    finally:
        await writing.close()


async def check_written(folder: Path, size_bytes: int) -> None:
    content = random.Random(size_bytes).randbytes(size_bytes)

    assert await written(folder / "file", content) == hashlib.sha256(content).hexdigest()
    assert (folder / "file").read_bytes() == content


@pytest.mark.parametrize("size_bytes", SIZES)
async def test_every_byte_is_there_and_hashed(tmp_path: Path, size_bytes: int) -> None:
    await check_written(tmp_path, size_bytes)


async def test_a_file_system_that_refuses_to_be_written_past_the_cache_is_written_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.fcntl

    def refuse(descriptor: int, command: int, flags: int = 0) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, command, flags)

    monkeypatch.setattr(fcntl, "fcntl", refuse)

    await check_written(tmp_path, SIZES[-1])


async def test_a_file_system_that_learns_so_only_half_way_is_written_through_it_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.write, 0

    def refuse(descriptor: int, view: memoryview) -> int:
        nonlocal calls
        calls += 1
        if not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            return real(descriptor, view)
        if calls == 3:
            raise OSError(errno.EINVAL, "Invalid argument")
        # A part of the block, whose rest is then not aligned.
        return real(descriptor, view[: 4_096 if calls == 2 else len(view)])

    monkeypatch.setattr(os, "write", refuse)

    await check_written(tmp_path, SIZES[-1])


async def test_bytes_are_asked_for_before_they_are_written(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    async def ask(size_bytes: int) -> None:
        asked.append((size_bytes, (tmp_path / "file").stat().st_size))

    writing = Writing(tmp_path / "file", ask)
    await writing.add(bytes(2 * BLOCK_BYTES + 1))
    await writing.finish()
    await writing.close()

    assert [size_bytes for size_bytes, _ in asked] == [BLOCK_BYTES, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 1]
    assert all(there < size_bytes for size_bytes, there in asked)


async def test_what_is_refused_half_way_writes_no_more(tmp_path: Path) -> None:
    async def refuse(size_bytes: int) -> None:
        if size_bytes > BLOCK_BYTES:
            raise PermissionError

    writing = Writing(tmp_path / "file", refuse)
    with pytest.raises(PermissionError):
        await writing.add(bytes(3 * BLOCK_BYTES))
    await writing.close()

    assert (tmp_path / "file").stat().st_size <= BLOCK_BYTES


async def test_a_fault_of_the_disk_ends_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    writing = Writing(tmp_path / "file", allow)
    await writing.add(b"begun")
    monkeypatch.setattr(os, "write", no_space)
    with pytest.raises(OSError, match="No space"):
        await writing.add(bytes(4 * BLOCK_BYTES))
    await writing.close()


async def test_one_that_is_cancelled_leaves_no_writer_behind(tmp_path: Path) -> None:
    """Its descriptor may be another file's a moment later."""
    is_writing = asyncio.Event()

    async def tell(_: int) -> None:
        is_writing.set()

    async def write_on() -> None:
        while True:
            await writing.add(bytes(BLOCK_BYTES))

    writing = Writing(tmp_path / "file", tell)
    task = asyncio.create_task(write_on())
    await is_writing.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await writing.close()
    there = (tmp_path / "file").stat().st_size

    await asyncio.to_thread(writing._write_block, memoryview(bytes(BLOCK_BYTES)))

    assert (tmp_path / "file").stat().st_size == there

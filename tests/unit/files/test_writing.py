import asyncio
import ctypes
import errno
import fcntl
import gc
import hashlib
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from broker.files import stages
from broker.files.direct_file import DirectFile
from broker.files.source import Chunks
from broker.files.stages import BLOCK_BYTES
from broker.files.writing import BLOCKS, Writing
from tests.support.sources import chunks
from tests.support.waiting import until

SIZES = (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5)


async def allow(_: int) -> None:
    """Stand where limits are looked at."""


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(BLOCK_BYTES)


def pieces_of(content: bytes) -> Iterator[bytes]:
    """Yield it in pieces of a byte, of a packet, and larger than a block."""
    chosen, at = random.Random(len(content)), 0
    while at < len(content):
        size_bytes = chosen.choice((1, 1_448, 262_144, BLOCK_BYTES + 7))
        yield content[at : at + size_bytes]
        at += size_bytes


async def written(path: Path, content: bytes) -> str:
    return await written_by(Writing(DirectFile(path), allow), content)


async def written_by(writing: Writing, content: bytes) -> str:
    try:
        await writing.take(chunks(*pieces_of(content)))
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


@pytest.mark.parametrize("slow", ["hash", "write", "sender"])
async def test_whoever_is_slow_every_byte_is_there_and_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """In a jam blocks are taken in a row, in turns around the memory."""
    chosen = random.Random(slow)
    content = chosen.randbytes((3 * BLOCKS + 1) * BLOCK_BYTES + 5)
    file = DirectFile(tmp_path / "file")
    writing = Writing(file, allow)

    def slowly(act: Callable[[memoryview], None]) -> Callable[[memoryview], None]:
        def act_slowly(view: memoryview) -> None:
            time.sleep(chosen.random() / 50)
            act(view)

        return act_slowly

    async def sent() -> AsyncIterator[bytes]:
        for piece in pieces_of(content):
            if slow == "sender":
                await asyncio.sleep(chosen.random() / 500)
            yield piece

    for stage, name in zip(writing._stages, ("hash", "write"), strict=True):
        if name == slow:
            monkeypatch.setattr(stage, "_act", slowly(stage._act))
    await writing.take(Chunks(sent()))
    digest = await writing.finish()
    await writing.close()

    assert digest == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "file").read_bytes() == content


async def stalled(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many blocks are taken in while the disk takes none."""
    taken, may_go_on = 0, threading.Event()
    real = os.write

    def wait(descriptor: int, view: memoryview) -> int:
        assert may_go_on.wait(30)
        return real(descriptor, view)

    async def count(_: int) -> None:
        nonlocal taken
        taken += 1

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", wait)
        writing = Writing(DirectFile(path), count)
        task = asyncio.create_task(writing.take(Chunks(endless())))
        seen = -1
        while seen != taken:
            seen = taken
            await asyncio.sleep(0.2)
        task.cancel()
        may_go_on.set()
        with suppress(asyncio.CancelledError):
            await task
        await writing.close()
    return taken


async def test_few_hold_more_than_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await stalled(tmp_path / "first", monkeypatch) == BLOCKS

    others = [Writing(DirectFile(tmp_path / str(number)), allow) for number in range(8)]
    assert await stalled(tmp_path / "second", monkeypatch) == 2
    for other in others:
        await other.close()

    assert await stalled(tmp_path / "third", monkeypatch) == BLOCKS


async def test_a_slow_sender_is_received_into_the_same_two_blocks(tmp_path: Path) -> None:
    writing = Writing(DirectFile(tmp_path / "file"), allow)
    places: set[int] = set()

    class Slow:
        left = 4 * BLOCKS

        async def all_is_done(self) -> bool:
            return all(stage.passed == 4 * BLOCKS - self.left for stage in writing._stages)

        def chunks(self) -> AsyncIterator[bytes]:
            raise NotImplementedError

        async def fill(self, view: memoryview) -> int:
            places.add(ctypes.addressof(ctypes.c_char.from_buffer(view)))
            await until(self.all_is_done, "all is done")
            self.left -= 1
            return 0 if self.left < 0 else len(view)

    await writing.take(Slow())
    await writing.finish()
    await writing.close()

    assert len(places) == 2
    assert (tmp_path / "file").stat().st_size == 4 * BLOCKS * BLOCK_BYTES


async def test_one_that_never_ends_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though there is one thread for all."""
    with ThreadPoolExecutor(1) as one:
        monkeypatch.setattr(stages, "_threads", one)
        writing = Writing(DirectFile(tmp_path / "endless"), allow)
        monkeypatch.setattr(writing._stages[1], "_act", lambda _: None)  # it would fill the disk
        task = asyncio.create_task(writing.take(Chunks(endless())))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(30):
            await check_written(tmp_path, SIZES[-1])
        assert not task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await writing.close()


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
        asked.append((size_bytes, size_of(tmp_path / "file")))

    writing = Writing(DirectFile(tmp_path / "file"), ask)
    await writing.take(chunks(bytes(2 * BLOCK_BYTES + 1)))
    await writing.finish()
    await writing.close()

    assert [size_bytes for size_bytes, _ in asked] == [BLOCK_BYTES, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 1]
    assert all(there < size_bytes for size_bytes, there in asked)


async def test_what_is_refused_half_way_writes_no_more(tmp_path: Path) -> None:
    async def refuse(size_bytes: int) -> None:
        if size_bytes > BLOCK_BYTES:
            raise PermissionError

    writing = Writing(DirectFile(tmp_path / "file"), refuse)
    with pytest.raises(PermissionError):
        await writing.take(chunks(bytes(3 * BLOCK_BYTES)))
    await writing.close()

    assert size_of(tmp_path / "file") <= BLOCK_BYTES


async def test_a_fault_of_the_disk_ends_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    writing = Writing(DirectFile(tmp_path / "file"), allow)
    await writing.take(chunks(b"begun"))
    monkeypatch.setattr(os, "write", no_space)
    with pytest.raises(OSError, match="No space"):
        await writing.take(chunks(bytes(2 * BLOCKS * BLOCK_BYTES)))
    await writing.close()


async def test_a_block_that_could_not_be_written_never_counts_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the loop looks at first, and though it is the last one."""
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(50):
            file = DirectFile(tmp_path / str(number))
            writing = Writing(file, allow)
            writing_stage = writing._stages[1]
            monkeypatch.setattr(writing_stage, "_act", refuse_block)
            with pytest.raises(OSError, match="No space"):
                await written_by(writing, bytes(BLOCK_BYTES))
            assert writing_stage.passed == 0
    finally:
        sys.setswitchinterval(switch_s)


def refuse_block(_: memoryview) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_what_failed_lets_its_memory_go_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when Python looks for cycles: a full disk is met again and again."""
    monkeypatch.setattr(DirectFile, "write_block", lambda *_: refuse_block(memoryview(b"")))
    gc.disable()
    try:
        writing = Writing(DirectFile(tmp_path / "file"), allow)
        memory = weakref.ref(writing._memory.obj)
        with suppress(OSError):
            await written_by(writing, bytes(2 * BLOCKS * BLOCK_BYTES))
        del writing

        async def is_gone() -> bool:
            return memory() is None

        await until(is_gone, "nobody has the memory any more")
    finally:
        gc.enable()


async def test_one_that_is_cancelled_leaves_no_writer_behind(tmp_path: Path) -> None:
    """Its descriptor may be another file's a moment later."""
    is_writing = asyncio.Event()

    async def tell(_: int) -> None:
        is_writing.set()

    file = DirectFile(tmp_path / "file")
    writing = Writing(file, tell)
    task = asyncio.create_task(writing.take(Chunks(endless())))
    await is_writing.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await writing.close()
    there = size_of(tmp_path / "file")

    await asyncio.to_thread(file.write_block, memoryview(bytes(BLOCK_BYTES)))

    assert size_of(tmp_path / "file") == there

"""A file down in several ranges at once, and on from where an earlier try stopped.

What is there of it lies beside the target under a name of its digest, with a byte for each block that came: so nothing
is taken for a part of other bytes, and what is put together is proved by the digest before it gets its name.
"""

import asyncio
import fcntl
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from broker.client.errors import CallError, Unreachable, may_help_to_repeat, shown_address
from broker.client.gathering import gathered
from broker.client.session import Patience, Session
from broker.wire.names import Digest

BLOCK_BYTES = 8_388_608
AT_ONCE = 4
_PIECE_BYTES = 1_048_576
_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")
_PAUSES = Patience(attempts=6, total_s=600.0)


class Known(NamedTuple):
    """What is known of a file before its bytes are asked for."""

    digest: Digest
    size_bytes: int


class Busy(Exception):
    """Another process downloads the same bytes to the same folder."""


class PartFile:
    """What came of a file: `path` of its full size, and which blocks of it are there. Locked while it is open.

    Raises:
        Busy: somebody else has it, at the entry of its block.
    """

    def __init__(self, folder: Path, known: Known) -> None:
        name = known.digest.removeprefix("sha256:")[:32]
        self.path = folder / f".{name}.part"
        self._marks = folder / f".{name}.blocks"
        self.size_bytes = known.size_bytes
        self._count = -(-known.size_bytes // BLOCK_BYTES)

    def __enter__(self) -> Self:
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            raise Busy(str(self.path)) from error
        if not self._is_at_its_path():
            os.close(self._file)
            raise Busy(str(self.path))
        is_known = os.fstat(self._file).st_size == self.size_bytes
        self._done = os.open(self._marks, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        if not is_known or os.fstat(self._done).st_size != self._count:
            self.begin_anew()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._done)
        os.close(self._file)

    def _is_at_its_path(self) -> bool:
        """Tell whether what is locked is still the part: who had it may have made it the target just before."""
        try:
            return os.fstat(self._file).st_ino == self.path.stat().st_ino
        except FileNotFoundError:
            return False

    def begin_anew(self) -> None:
        os.ftruncate(self._done, 0)
        os.ftruncate(self._done, self._count)
        os.ftruncate(self._file, self.size_bytes)

    def missing(self) -> list[int]:
        """Return the numbers of the blocks that are not there."""
        return [number for number, mark in enumerate(os.pread(self._done, self._count, 0)) if not mark]

    def size_of(self, number: int) -> int:
        return min(BLOCK_BYTES, self.size_bytes - number * BLOCK_BYTES)

    def write(self, piece: bytes, at_bytes: int) -> None:
        view = memoryview(piece)
        while view:
            count = os.pwrite(self._file, view, at_bytes)
            view, at_bytes = view[count:], at_bytes + count

    def mark(self, number: int) -> None:
        os.pwrite(self._done, b"1", number)

    def digest(self) -> Digest:
        hasher = hashlib.sha256()
        for start in range(0, self.size_bytes, _PIECE_BYTES):
            hasher.update(os.pread(self._file, _PIECE_BYTES, start))
        return Digest(f"sha256:{hasher.hexdigest()}")

    def become(self, target: Path) -> None:
        os.fsync(self._file)
        self.path.replace(target)
        self._marks.unlink(missing_ok=True)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._marks.unlink(missing_ok=True)


async def download(session: Session, url: str, part: PartFile, progress: Callable[[int], None]) -> None:
    """Fetch the blocks that are missing, some at once.

    Raises:
        ApiError, Unreachable: as often as it helps each block was tried; what came stays.
    """
    missing = part.missing()
    progress(part.size_bytes - sum(map(part.size_of, missing)))
    await gathered([_block(session, url, part, number, progress) for number in missing], AT_ONCE)


async def _block(session: Session, url: str, part: PartFile, number: int, progress: Callable[[int], None]) -> None:
    for attempt in range(1, _PAUSES.attempts + 1):
        went: list[int] = []
        try:
            await _fetch(session, url, part, number, went, progress)
        except CallError as error:
            progress(-sum(went))
            if attempt == _PAUSES.attempts or not may_help_to_repeat(error):
                raise
        else:
            part.mark(number)
            return
        await asyncio.sleep(_PAUSES.delay_s(attempt, None))


async def _fetch(
    session: Session, url: str, part: PartFile, number: int, went: list[int], progress: Callable[[int], None]
) -> None:
    start, size = number * BLOCK_BYTES, part.size_of(number)
    headers = {"Range": f"bytes={start}-{start + size - 1}"}
    async with session.open("GET", url, headers=headers) as answer:
        said = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status != 206 or said is None or int(said[1]) != start or int(said[2]) != start + size - 1:
            raise Unreachable(
                f"{shown_address(url)} was asked for a range and answered with something else", is_lasting=True
            )
        came = 0
        async for piece in answer.content.iter_chunked(_PIECE_BYTES):
            if came + len(piece) > size:
                raise Unreachable(f"{shown_address(url)} sent more than was asked for")
            await asyncio.to_thread(part.write, piece, start + came)
            came += len(piece)
            went.append(len(piece))
            progress(len(piece))
    if came < size:
        raise Unreachable(f"{shown_address(url)} sent less than was asked for")

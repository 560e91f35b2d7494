"""Adding to the end of a file: what was written is known at every moment, and durable at the end."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from broker.domain.errors import Rejected
from broker.files.free_space import FreeSpace, disk_full_told
from broker.wire.problems import ProblemCode

CHECKSUMS = ("sha1", "sha256")


class Checksum(NamedTuple):
    """What the bytes of one request must come to; `algorithm` is one of `CHECKSUMS`."""

    algorithm: str
    digest: bytes


class Appending:
    """One request's bytes at the end of a file that may have `limit_bytes`. `offset_bytes` is where it stands."""

    def __init__(self, path: Path, offset_bytes: int, limit_bytes: int, space: FreeSpace) -> None:
        self.offset_bytes = offset_bytes
        self._path = path
        self._limit_bytes = limit_bytes
        self._space = space
        # A cancelled await leaves its thread behind: it must not write once the file is closed.
        self._writing = threading.Lock()
        self._is_closed = False
        # Opened for the first piece: what is complete, and may be an image already, is not written to any more.
        self._descriptor: int | None = None

    async def run(
        self, pieces: AsyncIterator[bytes], checksum: Checksum | None, written: Callable[[], Awaitable[None]]
    ) -> None:
        """Write the pieces, and call `written` after each. When they break off, those that came are kept.

        Raises:
            Rejected: `checksum_mismatch`: none of the pieces is kept; `too_large`.
            Unavailable: `store_disk_full`.
        """
        begun_bytes = self.offset_bytes
        hasher = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum is not None else None
        try:
            with disk_full_told():
                async for piece in pieces:
                    self._check(piece)
                    await asyncio.to_thread(self._write, piece, hasher)
                    self.offset_bytes += len(piece)
                    await written()
                if checksum is not None and hasher is not None and hasher.digest() != checksum.digest:
                    self.offset_bytes = begun_bytes
                    raise _mismatch(checksum.algorithm)
        finally:
            await asyncio.shield(asyncio.to_thread(self._close))

    def _check(self, piece: bytes) -> None:
        if self.offset_bytes + len(piece) > self._limit_bytes:
            raise Rejected(
                ProblemCode.TOO_LARGE, f"more bytes came than the {self._limit_bytes} that were announced: send no more"
            )
        self._space.check()

    def _write(self, piece: bytes, hasher: "hashlib._Hash | None") -> None:
        with self._writing:
            if self._is_closed:
                return
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            if hasher is not None:
                hasher.update(piece)
            view = memoryview(piece)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def _close(self) -> None:
        """Cut off what is not counted, make the rest durable."""
        with self._writing:
            self._is_closed = True
            if self._descriptor is None:
                return
            try:
                os.ftruncate(self._descriptor, self.offset_bytes)
                os.fsync(self._descriptor)
            finally:
                os.close(self._descriptor)


def _mismatch(algorithm: str) -> Rejected:
    return Rejected(
        ProblemCode.CHECKSUM_MISMATCH,
        f"the bytes of this request do not have the {algorithm} that was sent with them, and were not kept: send again",
    )

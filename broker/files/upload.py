"""One upload in the hands of one request: it grows, its hash follows, and at its end it is proved."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import msgspec

from broker.domain.errors import Rejected, Unavailable
from broker.files.appending import Appending, Checksum
from broker.files.free_space import FreeSpace
from broker.wire.names import Digest
from broker.wire.problems import ProblemCode

PROVE_S = 20.0
"""How long one request may go on proving; a further one goes on from there."""
_CATCH_UP_S = 1.0
_PIECE_BYTES = 4_194_304


class Purpose(StrEnum):
    """What an upload's bytes become."""

    IMAGE = "image"
    FILE = "file"
    PART = "part"
    """Nothing by themselves: a file is put together of several."""


class Record(msgspec.Struct, frozen=True):
    """What is kept of an upload beside its bytes; a finished one's bytes are an image or a file."""

    user: str
    digest: str
    size_bytes: int
    is_finished: bool = False
    begun: str = ""
    """Tells it from an upload that was begun before under the same id, and removed."""
    purpose: Purpose = Purpose.IMAGE
    file: str = ""
    """`USER/PATH` that a file gets."""
    is_create_only: bool = False


@dataclass(slots=True)
class Hashed:
    """The first `size_bytes` of the upload that was `begun` so, hashed by this process."""

    begun: str
    size_bytes: int = 0
    hasher: "hashlib._Hash" = field(default_factory=hashlib.sha256)


class Upload:
    """An upload that is this request's alone, for as long as its block lasts. `path` holds the bytes."""

    def __init__(self, record: Record, path: Path, descriptor: int, hashed: Hashed, space: FreeSpace) -> None:
        self.digest = Digest(record.digest)
        self.record = record
        self.size_bytes = record.size_bytes
        self.path = path
        self.offset_bytes = os.fstat(descriptor).st_size
        self._descriptor = descriptor
        self._hashed = hashed
        self._space = space
        # A cancelled await leaves its thread behind: it must not hash what is another request's by then.
        self._hashing = threading.Lock()
        self._is_closed = False

    @property
    def is_complete(self) -> bool:
        return self.offset_bytes == self.size_bytes

    async def append(self, pieces: AsyncIterator[bytes], checksum: Checksum | None) -> None:
        """Add bytes, durable at the end. When the pieces break off, those that came are kept.

        Raises:
            Rejected: `checksum_mismatch`: none of these pieces is kept; `too_large`: more came than was announced.
            Unavailable: `store_disk_full`; what was written before is kept.
        """
        appending = Appending(self.path, self.offset_bytes, self.size_bytes, self._space)

        async def written() -> None:
            # What a checksum may still take back is not hashed.
            if checksum is None:
                self.offset_bytes = appending.offset_bytes
                await self._hash_on()

        try:
            await appending.run(pieces, checksum, written)
        finally:
            self.offset_bytes = appending.offset_bytes
        await self._catch_up(_CATCH_UP_S)

    async def prove(self) -> None:
        """Return when the complete upload has the digest that was announced, and is durable.

        Raises:
            Rejected: `digest_mismatch`.
            Unavailable: `upload_busy`: there is more to hash than one request may; another one goes on.
        """
        await self._catch_up(PROVE_S)
        if self._hashed.size_bytes < self.size_bytes:
            raise Unavailable(
                ProblemCode.UPLOAD_BUSY,
                "all bytes are there, and their digest is still being proved: send an empty PATCH in a moment",
                retry_after_s=1,
            )
        found = f"sha256:{self._hashed.hasher.hexdigest()}"
        if found != self.digest:
            raise Rejected(
                ProblemCode.DIGEST_MISMATCH,
                f"the bytes that arrived have {found}, announced was {self.digest}; nothing was kept: upload again",
            )
        # A broker that was killed may have left bytes that no request made durable.
        await asyncio.to_thread(os.fsync, self._descriptor)

    async def _catch_up(self, within_s: float) -> None:
        ends_s = time.monotonic() + within_s
        while self._hashed.size_bytes < self.offset_bytes and time.monotonic() < ends_s:
            await self._hash_on()

    async def _hash_on(self) -> None:
        await asyncio.to_thread(self._hash_piece, min(_PIECE_BYTES, self.offset_bytes - self._hashed.size_bytes))

    def _hash_piece(self, size_bytes: int) -> None:
        with self._hashing:
            if self._is_closed:
                return
            piece = os.pread(self._descriptor, size_bytes, self._hashed.size_bytes)
            self._hashed.hasher.update(piece)
            self._hashed.size_bytes += len(piece)

    def close(self) -> None:
        """Let go of the upload, once a piece that is being hashed is."""
        with self._hashing:
            self._is_closed = True
            os.close(self._descriptor)

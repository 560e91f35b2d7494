"""An image's bytes as far as they have come, hashed as they come."""

import fcntl
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from launcher.images.errors import CacheFailed
from launcher.images.folder import open_regular
from launcher.images.locks import try_lock
from launcher.images.source import Image
from launcher.images.threads import finish_in_thread
from launcher.images.verified import hash_slice


class Part:
    """One download's file, held by a lock while it is written; what an earlier launcher brought is taken over.

    Attributes:
        have_bytes: how much of the image is there.
        givers: whom that came from. More than one, and none of them can be blamed for a wrong digest.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self.path = path
        self.have_bytes = 0
        self.givers: set[str] = set()
        self._hasher = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hasher.hexdigest()}"

    async def take_over(self) -> None:
        """Count what is there already."""
        while read := await finish_in_thread(hash_slice, self.descriptor, self.have_bytes, self._hasher):
            self.have_bytes += read
            self.givers.add("an earlier download")

    async def append(self, chunk: bytes, giver: str) -> None:
        self.givers.add(giver)
        await finish_in_thread(self._append, chunk)

    def _append(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            written = os.pwrite(self.descriptor, rest, self.have_bytes)
            self._hasher.update(rest[:written])
            self.have_bytes += written
            rest = rest[written:]

    def restart(self) -> None:
        """Give up what is there."""
        os.ftruncate(self.descriptor, 0)
        self.have_bytes, self._hasher = 0, hashlib.sha256()
        self.givers.clear()

    def seal(self) -> None:
        """Make it read-only for everybody, and let go of it."""
        os.fchmod(self.descriptor, 0o444)
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)


@asynccontextmanager
async def opened_part(path: Path, image: Image) -> AsyncIterator[Part]:
    """Open the download of an image, made if need be; it stays for the next try.

    Raises:
        CacheFailed: another process of this account writes to it, without the image's lock.
        OSError: it cannot be made.
    """
    descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        if not try_lock(descriptor):
            raise CacheFailed(f"another process writes to {path}: end it")
        part = Part(descriptor, path)
        if os.fstat(descriptor).st_size > image.size_bytes:
            part.restart()
        yield part
    finally:
        os.close(descriptor)

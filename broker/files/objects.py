"""Where the bytes of users' files are: objects, each written once under a name of its own, and named by a record.

There are two homes for them, a folder of the broker's disk and an S3 bucket; records know nothing of which. An object
that no record names counts for nothing, wherever it lies.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from broker.files.durable import sync_folder
from broker.files.folders import make_private
from broker.files.free_space import FreeSpace
from broker.files.incoming import Received, clear_abandoned, receive
from broker.files.room import Admit
from broker.files.source import Source
from broker.wire.names import Digest, UserName


class ObjectName(NamedTuple):
    """An object's own name: `file` is the hash of the path that it was written for, by which its record is found."""

    user: UserName
    file: str
    object_id: str


class Facts(NamedTuple):
    """What is known of an object's bytes; `etag` is S3's own, with its quotes."""

    size_bytes: int
    digest: Digest
    etag: str = ""


class Arrival(Protocol):
    """An object that is whole and durable, and goes at the end of its block unless it is kept."""

    @property
    def facts(self) -> Facts: ...

    def keep(self) -> None:
        """Have it stay, in a thread; a record names it next."""

    def drop(self) -> None:
        """Have it go all the same, in a thread, where no record could be made to name it."""


class Objects(Protocol):
    """A home of objects."""

    def arriving(
        self, name: ObjectName, source: Source, *, limit_bytes: int, expected: Digest | None, admit: Admit
    ) -> AbstractAsyncContextManager[Arrival]:
        """Take bytes in for the block, which may keep them. `admit` is told of bytes before they are written.

        Raises:
            Rejected: `too_large` or `digest_mismatch`; nothing is kept.
            Unavailable: the home takes nothing now; nothing is kept.
        """

    def adopting(self, name: ObjectName, proved: Path, facts: Facts) -> AbstractAsyncContextManager[Arrival]:
        """Take in, for the block, a file of the broker's disk that is durable, and that was proved to be that.

        It stays for its owner to remove: until a record names what was kept, it is all there is.

        Raises:
            Unavailable: the home takes nothing now; nothing is kept.
        """

    async def remove(self, name: ObjectName) -> None:
        """Remove an object, if it is there; one that cannot be removed now is left to a sweep."""

    def location(self, name: ObjectName) -> Path | None:
        """Return where it lies on this disk; None where objects are elsewhere."""


class _LocalArrival:
    def __init__(self, received: Received, location: Path) -> None:
        self.facts = Facts(received.size_bytes, received.digest)
        self._path = received.path
        self._location = location

    def keep(self) -> None:
        make_private(self._location.parent)
        self._location.hardlink_to(self._path)
        sync_folder(self._location.parent)

    def drop(self) -> None:
        self._location.unlink(missing_ok=True)


class LocalObjects:
    """Objects below one folder of the broker's disk."""

    def __init__(self, folder: Path, *, space: FreeSpace) -> None:
        self._objects = folder / "objects"
        self._incoming = folder / "incoming"
        self._space = space
        for part in (self._objects, self._incoming):
            make_private(part)
        clear_abandoned(self._incoming)

    @asynccontextmanager
    async def arriving(
        self, name: ObjectName, source: Source, *, limit_bytes: int, expected: Digest | None, admit: Admit
    ) -> AsyncIterator[Arrival]:
        async with receive(
            self._incoming, source, limit_bytes=limit_bytes, expected=expected, space=self._space, admit=admit
        ) as received:
            yield _LocalArrival(received, self.location(name))

    @asynccontextmanager
    async def adopting(self, name: ObjectName, proved: Path, facts: Facts) -> AsyncIterator[Arrival]:
        yield _LocalArrival(Received(proved, facts.size_bytes, facts.digest), self.location(name))

    async def remove(self, name: ObjectName) -> None:
        await asyncio.to_thread(self.location(name).unlink, missing_ok=True)

    def location(self, name: ObjectName) -> Path:
        return self._objects / name.object_id[:2] / name.object_id

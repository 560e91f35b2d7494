"""The file service: files of users, each a record that names an object holding its bytes.

A record is what makes a file exist. Objects are never changed, only removed after no record names them; a crash between
leaves at most an object that nobody names. A record is read and replaced as one step, under a lock that the broker's
other processes respect, too. Where objects are is the business of their home; where that is S3, they may come there
without passing here: see `direct_uploads`.
"""

import asyncio
import secrets
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

from broker.domain.errors import Rejected
from broker.domain.paths import FilePath
from broker.files.direct_uploads import DirectUploads, Home
from broker.files.folders import make_private
from broker.files.free_space import FreeSpace, disk_full_told
from broker.files.incoming import too_large
from broker.files.locks import is_idle
from broker.files.objects import Arrival, Facts, LocalObjects, ObjectName, Objects
from broker.files.pending import Pending
from broker.files.records import RECORD_BYTES, Record, Records, already_exists, object_of
from broker.files.room import Counting, Room, changing, to_its_end
from broker.files.source import Source
from broker.wire.names import Digest, UserName, check_digest

_MOST_COUNTED = 1_000_000
"""Records of one user that are looked at to count them; it takes about a minute."""


class StoredFile(NamedTuple):
    """A file that is there. `location` holds its bytes until it is replaced or deleted; None: they are in S3."""

    location: Path | None
    size_bytes: int
    digest: Digest
    name: ObjectName
    etag: str = ""


class UserFiles:
    """Files of all users: records below one folder of the broker's disk, objects there or in the `bucket`."""

    def __init__(
        self, folder: Path, *, limit_bytes: int, space: FreeSpace, counting: Counting, bucket: Home | None = None
    ) -> None:
        self.records = folder / "records"
        self._records = Records(self.records)
        self._pending = Pending(folder / "pending")
        self._limit_bytes = limit_bytes
        self._counting = counting
        self._space = space
        self._objects: Objects = bucket or LocalObjects(folder, space=space)
        self.direct = DirectUploads(self._records, self._pending, bucket, counting) if bucket else None

    async def put(
        self,
        path: FilePath,
        source: Source,
        *,
        expected: Digest | None,
        create_only: bool,
        announced_bytes: int | None = None,
    ) -> tuple[StoredFile, bool]:
        """Write a file, whole or not at all, durable when it returns; tell whether it is new.

        The same bytes put again under a name that must be new are no fault: it is a retry. Room is taken for what is
        announced before a byte is read, and for what is not as it comes; one that is replaced goes when the new one is
        there, so that both must fit.

        Raises:
            Rejected: `too_large`, `quota_exceeded`, `digest_mismatch`, or `already_exists` when `create_only` and it
                holds other bytes; nothing is kept.
            Unavailable: `store_disk_full`, or S3 is away.
        """
        await self._settle(path)
        there = None
        if create_only and expected is not None:
            there = await asyncio.to_thread(self._records.read_same, path, expected)
        self._check_size(announced_bytes)
        self._space.check()  # the record is on this disk, wherever the bytes are
        folder = self._records.folder_of(path.user)
        await asyncio.to_thread(make_private, folder)
        async with changing(self._counting, path.user, folder) as room:
            try:
                await room.grow_to(RECORD_BYTES + (announced_bytes or 0))
            except Rejected:
                if there is not None:
                    return self._stored(path, there), False
                raise
            name = object_of(path, secrets.token_hex(16))
            arriving = self._objects.arriving(
                name,
                source,
                limit_bytes=self._limit_bytes,
                expected=expected,
                admit=lambda size_bytes: room.grow_to(RECORD_BYTES + size_bytes),
            )
            return await self._made(path, name, arriving, create_only, room)

    async def adopt(
        self, path: FilePath, proved: Path, size_bytes: int, digest: Digest, *, create_only: bool
    ) -> tuple[StoredFile, bool]:
        """Keep a file of the data folder's disk, durable and with its digest proved; tell whether it is new.

        It stays for its owner to remove.

        Raises:
            Rejected, Unavailable: as `put`.
        """
        self._check_size(size_bytes)
        await self._settle(path)
        folder = self._records.folder_of(path.user)
        await asyncio.to_thread(make_private, folder)
        async with changing(self._counting, path.user, folder) as room:
            await room.grow_to(RECORD_BYTES + size_bytes)
            name = object_of(path, secrets.token_hex(16))
            adopting = self._objects.adopting(name, proved, Facts(size_bytes, digest))
            return await self._made(path, name, adopting, create_only, room)

    async def check_room(self, user: UserName, more_bytes: int, *, beside_bytes: int) -> None:
        """Return when the user has room for a file of that size now, beside what arrives elsewhere.

        None is kept for it.

        Raises:
            Rejected: `quota_exceeded`, or `too_large` when no file may be so large.
        """
        self._check_size(more_bytes)
        folder = self._records.folder_of(user)
        await asyncio.to_thread(make_private, folder)
        async with changing(self._counting, user, folder) as room:
            await room.grow_to(RECORD_BYTES + more_bytes + beside_bytes)

    async def announce(self, path: FilePath, facts: Facts, *, create_only: bool) -> StoredFile | ObjectName | None:
        """Prepare for a file's bytes to come to S3 without passing here; None: they have to be `put`.

        So it is where there is no S3, of what is too large for one PUT, and of one more than may be under way.

        Returns:
            The file, once it is there with these bytes; until then the object that is to be written, for whose room
            its user has to have place. Announced again it is the same object.

        Raises:
            Rejected: `too_large`, `quota_exceeded`, or `already_exists` as for `put`.
            Unavailable: as for `put`.
        """
        self._check_size(facts.size_bytes)
        if self.direct is None or not self.direct.takes(facts.size_bytes):
            return None
        self._space.check()
        await self._settle(path)
        record = await asyncio.to_thread(self._records.read, path)
        if record is not None and record.digest == facts.digest:
            return self._stored(path, record)
        if record is not None and create_only:
            raise already_exists(path)
        return await self.direct.announce(path, facts, create_only=create_only)

    async def find(self, path: FilePath) -> StoredFile | None:
        """Return the file, or None.

        Raises:
            Unavailable: S3 does not tell whether it came.
        """
        await self._settle(path)
        record = await asyncio.to_thread(self._records.read, path)
        return self._stored(path, record) if record else None

    async def modified_s(self, path: FilePath) -> float:
        """Return when a file was written, in seconds since the epoch; 0.0 of one that is not there."""
        return await asyncio.to_thread(self._records.modified_s, path)

    async def find_all(self, paths: set[FilePath]) -> set[FilePath]:
        """Return those of the paths under which there is a file."""
        found = await asyncio.to_thread(lambda: {path for path in paths if self._records.exists(path)})
        if self.direct is not None:
            for path in await self.direct.noted(paths - found):
                await self._settle(path)
                if await asyncio.to_thread(self._records.exists, path):
                    found.add(path)
        return found

    async def delete(self, path: FilePath) -> bool:
        """Remove a file; tell whether it was there."""
        await self._settle(path)
        folder = self._records.folder_of(path.user)
        if await asyncio.to_thread(self._records.read, path) is None:
            return False
        async with changing(self._counting, path.user, folder) as room:
            record = await to_its_end(asyncio.to_thread(self._delete, path, room))
        if record is not None:
            await self._objects.remove(object_of(path, record.object_id))
        return record is not None

    async def users(self) -> list[UserName]:
        """Return who ever had a file."""
        return await asyncio.to_thread(self._records.users)

    async def counted(self, user: UserName) -> int | None:
        """Return what room the user's files take; None when one of them is changing, or they are too many to look at.

        A count that holds if the room did not move since before this was called: who changes a file moves it before,
        and is seen here until it is settled.
        """
        return await asyncio.to_thread(self._counted, user)

    async def _settle(self, path: FilePath) -> None:
        if self.direct is not None:
            await self.direct.settle(path)

    async def _made(
        self,
        path: FilePath,
        name: ObjectName,
        arriving: AbstractAsyncContextManager[Arrival],
        create_only: bool,
        room: Room,
    ) -> tuple[StoredFile, bool]:
        with disk_full_told():
            async with arriving as arrival:
                record, old = await to_its_end(asyncio.to_thread(self._keep, path, name, arrival, create_only, room))
        if old is not None and old != record:
            await self._objects.remove(object_of(path, old.object_id))
        return self._stored(path, record), old is None

    def _check_size(self, size_bytes: int | None) -> None:
        if size_bytes is not None and size_bytes > self._limit_bytes:
            raise too_large(self._limit_bytes)

    def _stored(self, path: FilePath, record: Record) -> StoredFile:
        name = object_of(path, record.object_id)
        return StoredFile(
            self._objects.location(name), record.size_bytes, check_digest(record.digest), name, record.etag
        )

    def _counted(self, user: UserName) -> int | None:
        if not is_idle(self._records.folder_of(user)):
            return None
        size_bytes = 0
        for number, record in enumerate(self._records.of_user(user)):
            if number >= _MOST_COUNTED:
                return None
            size_bytes += record.room_bytes
        return size_bytes + sum(RECORD_BYTES + note.size_bytes for note in self._pending.of_user(user))

    def _keep(
        self, path: FilePath, name: ObjectName, arrival: Arrival, create_only: bool, room: Room
    ) -> tuple[Record, Record | None]:
        """Make the record of what arrived; return the record that holds now, and the one before."""
        record = Record.of(path, name.object_id, arrival.facts)
        with self._records.lock(path):
            old = self._records.read(path)
            if old is not None and old.digest == record.digest:
                return old, old
            if old is not None and create_only:
                raise already_exists(path)
            arrival.keep()
            try:
                self._records.write(path, record)
            except OSError:
                if not self._records.names(name):
                    arrival.drop()
                raise
            room.kept_bytes = record.room_bytes - (0 if old is None else old.room_bytes)
        return record, old

    def _delete(self, path: FilePath, room: Room) -> Record | None:
        with self._records.lock(path):
            record = self._records.read(path)
            if record is not None:
                self._records.remove(path)
                room.kept_bytes = -record.room_bytes
        return record

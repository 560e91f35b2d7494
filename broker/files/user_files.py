"""The file service: files of users, each a record that names an object holding its bytes.

A path never becomes a path on disk: a record's name is the hash of the path, so no path can reach outside, collide with
a folder, or be too deep. A record is what makes a file exist, and is put in place by one rename (or one link, when it
must be new), so a reader sees the old file or the new, whole. Objects are never changed, only removed after no record
names them; a crash between leaves at most an object that nobody names. A record is read and replaced as one step, under
a lock that the broker's other processes respect, too.
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from broker.domain.errors import Rejected
from broker.domain.paths import FilePath
from broker.files.folders import make_private
from broker.files.free_space import FreeSpace
from broker.files.incoming import Received, clear_abandoned, receive, sync_folder, too_large
from broker.files.locks import held, is_idle
from broker.files.room import Counting, Room, changing
from broker.wire.names import Digest, UserName, check_digest
from broker.wire.problems import ProblemCode

_RECORD_BYTES = 4_096
"""What a file takes beside its bytes, so that empty ones are bounded, too: the block of its record."""
_MOST_COUNTED = 1_000_000
"""Records of one user that are looked at to count them; it takes about a minute."""


class Record(msgspec.Struct, frozen=True):
    """What is kept of one file beside its bytes."""

    path: str
    object_id: str
    size_bytes: int
    digest: str


class StoredFile(NamedTuple):
    """A file that is there: `location` holds its bytes until it is replaced or deleted."""

    location: Path
    size_bytes: int
    digest: Digest


class UserFiles:
    """Files of all users below one folder of the broker's disk."""

    def __init__(self, folder: Path, *, limit_bytes: int, space: FreeSpace, counting: Counting) -> None:
        self.records = self._records = folder / "records"
        self._objects = folder / "objects"
        self._incoming = folder / "incoming"
        self._limit_bytes = limit_bytes
        self._space = space
        self._counting = counting
        for part in (self._records, self._objects, self._incoming):
            make_private(part)
        clear_abandoned(self._incoming)

    async def put(
        self,
        path: FilePath,
        chunks: AsyncIterator[bytes],
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
            Unavailable: `store_disk_full`.
        """
        there = None
        if create_only and expected is not None:
            there = await asyncio.to_thread(self._read_same, path, expected)
        if announced_bytes is not None and announced_bytes > self._limit_bytes:
            raise too_large(self._limit_bytes)
        folder = self._records / path.user
        await asyncio.to_thread(make_private, folder)
        async with changing(self._counting, path.user, folder) as room:
            try:
                await room.grow_to(_RECORD_BYTES + (announced_bytes or 0))
            except Rejected:
                if there is not None:
                    return self._stored(there), False
                raise
            async with receive(
                self._incoming,
                chunks,
                limit_bytes=self._limit_bytes,
                expected=expected,
                space=self._space,
                admit=lambda size_bytes: room.grow_to(_RECORD_BYTES + size_bytes),
            ) as received:
                return await asyncio.to_thread(self._keep, path, received, create_only, room)

    async def adopt(
        self, path: FilePath, proved: Path, size_bytes: int, digest: Digest, *, create_only: bool
    ) -> tuple[StoredFile, bool]:
        """Keep a file of the same disk, durable and with its digest proved, as the file; tell whether it is new.

        It is moved; where the same bytes are there already it stays for its owner to remove.

        Raises:
            Rejected: as `put`.
        """
        if size_bytes > self._limit_bytes:
            raise too_large(self._limit_bytes)
        folder = self._records / path.user
        await asyncio.to_thread(make_private, folder)
        async with changing(self._counting, path.user, folder) as room:
            await room.grow_to(_RECORD_BYTES + size_bytes)
            received = Received(proved, size_bytes, digest)
            return await asyncio.to_thread(self._keep, path, received, create_only, room)

    async def check_room(self, user: UserName, more_bytes: int, *, beside_bytes: int) -> None:
        """Return when the user has room for a file of that size now, beside what arrives elsewhere.

        None is kept for it.

        Raises:
            Rejected: `quota_exceeded`, or `too_large` when no file may be so large.
        """
        if more_bytes > self._limit_bytes:
            raise too_large(self._limit_bytes)
        folder = self._records / user
        await asyncio.to_thread(make_private, folder)
        async with changing(self._counting, user, folder) as room:
            await room.grow_to(_RECORD_BYTES + more_bytes + beside_bytes)

    async def find(self, path: FilePath) -> StoredFile | None:
        """Return the file, or None."""
        record = await asyncio.to_thread(self._read, path)
        return self._stored(record) if record else None

    async def find_all(self, paths: set[FilePath]) -> set[FilePath]:
        """Return those of the paths under which there is a file."""
        return await asyncio.to_thread(lambda: {path for path in paths if self._record(path).exists()})

    async def delete(self, path: FilePath) -> bool:
        """Remove a file; tell whether it was there."""
        folder = self._records / path.user
        if await asyncio.to_thread(self._read, path) is None:
            return False
        async with changing(self._counting, path.user, folder) as room:
            return await asyncio.to_thread(self._delete, path, room)

    async def users(self) -> list[UserName]:
        """Return who ever had a file."""
        return await asyncio.to_thread(lambda: [UserName(folder.name) for folder in self._records.iterdir()])

    async def counted(self, user: UserName) -> int | None:
        """Return what room the user's files take; None when one of them is changing, or they are too many to look at.

        A count that holds if the room did not move since before this was called: who changes a file moves it before,
        and is seen here until it is settled.
        """
        return await asyncio.to_thread(self._counted, self._records / user)

    def _record(self, path: FilePath) -> Path:
        name = hashlib.sha256(path.path.encode()).hexdigest()
        return self._records / path.user / name[:2] / f"{name}.json"

    def _object(self, object_id: str) -> Path:
        return self._objects / object_id[:2] / object_id

    def _stored(self, record: Record) -> StoredFile:
        return StoredFile(self._object(record.object_id), record.size_bytes, check_digest(record.digest))

    def _read(self, path: FilePath) -> Record | None:
        try:
            return msgspec.json.decode(self._record(path).read_bytes(), type=Record)
        except FileNotFoundError:
            return None

    def _read_same(self, path: FilePath, digest: Digest) -> Record | None:
        record = self._read(path)
        if record is not None and record.digest != digest:
            raise _exists(path)
        return record

    def _counted(self, folder: Path) -> int | None:
        if not is_idle(folder):
            return None
        size_bytes = 0
        for number, record in enumerate(folder.glob("*/*.json")):
            if number >= _MOST_COUNTED:
                return None
            with suppress(FileNotFoundError):
                size_bytes += _room_of(msgspec.json.decode(record.read_bytes(), type=Record))
        return size_bytes

    def _keep(self, path: FilePath, received: Received, create_only: bool, room: Room) -> tuple[StoredFile, bool]:
        record = Record(path.path, secrets.token_hex(16), received.size_bytes, received.digest)
        folder = self._record(path).parent
        make_private(folder)
        with held(folder):
            old = self._read(path)
            if old is not None and old.digest == received.digest:
                return self._stored(old), False
            if old is not None and create_only:
                raise _exists(path)
            location = self._object(record.object_id)
            make_private(location.parent)
            received.path.rename(location)
            sync_folder(location.parent)
            self._write_record(path, record)
            room.kept_bytes = _room_of(record) - (0 if old is None else _room_of(old))
            if old is not None:
                self._object(old.object_id).unlink(missing_ok=True)
        return self._stored(record), old is None

    def _write_record(self, path: FilePath, record: Record) -> None:
        target = self._record(path)
        beside = target.with_suffix(f".{record.object_id}")
        with beside.open("xb") as file:
            file.write(msgspec.json.encode(record))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
        sync_folder(target.parent)

    def _delete(self, path: FilePath, room: Room) -> bool:
        with held(self._record(path).parent):
            record = self._read(path)
            if record is None:
                return False
            self._record(path).unlink()
            sync_folder(self._record(path).parent)
            self._object(record.object_id).unlink(missing_ok=True)
            room.kept_bytes = -_room_of(record)
            return True


def _room_of(record: Record) -> int:
    return _RECORD_BYTES + record.size_bytes


def _exists(path: FilePath) -> Rejected:
    return Rejected(ProblemCode.ALREADY_EXISTS, f"{path} exists already with other bytes and was not replaced")

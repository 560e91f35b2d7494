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
from pathlib import Path
from typing import NamedTuple

import msgspec

from broker.domain.errors import Rejected
from broker.domain.paths import FilePath
from broker.files.folders import make_private
from broker.files.free_space import FreeSpace
from broker.files.incoming import Received, clear_abandoned, receive, sync_folder
from broker.files.locks import held
from broker.wire.names import Digest, check_digest
from broker.wire.problems import ProblemCode


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

    def __init__(self, folder: Path, *, limit_bytes: int, space: FreeSpace) -> None:
        self._records = folder / "records"
        self._objects = folder / "objects"
        self._incoming = folder / "incoming"
        self._limit_bytes = limit_bytes
        self._space = space
        for part in (self._records, self._objects, self._incoming):
            make_private(part)
        clear_abandoned(self._incoming)

    async def put(
        self, path: FilePath, chunks: AsyncIterator[bytes], *, expected: Digest | None, create_only: bool
    ) -> tuple[StoredFile, bool]:
        """Write a file, whole or not at all, durable when it returns; tell whether it is new.

        The same bytes put again under a name that must be new are no fault: it is a retry.

        Raises:
            Rejected: `too_large`, `digest_mismatch`, or `already_exists` when `create_only` and it holds other bytes.
            Unavailable: `store_disk_full`.
        """
        if create_only and expected is not None:
            await asyncio.to_thread(self._refuse_other, path, expected)
        async with receive(
            self._incoming, chunks, limit_bytes=self._limit_bytes, expected=expected, space=self._space
        ) as received:
            return await asyncio.to_thread(self._keep, path, received, create_only)

    async def find(self, path: FilePath) -> StoredFile | None:
        """Return the file, or None."""
        record = await asyncio.to_thread(self._read, path)
        return self._stored(record) if record else None

    async def find_all(self, paths: set[FilePath]) -> set[FilePath]:
        """Return those of the paths under which there is a file."""
        return await asyncio.to_thread(lambda: {path for path in paths if self._record(path).exists()})

    async def delete(self, path: FilePath) -> bool:
        """Remove a file; tell whether it was there."""
        return await asyncio.to_thread(self._delete, path)

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

    def _refuse_other(self, path: FilePath, digest: Digest) -> None:
        record = self._read(path)
        if record is not None and record.digest != digest:
            raise _exists(path)

    def _keep(self, path: FilePath, received: Received, create_only: bool) -> tuple[StoredFile, bool]:
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

    def _delete(self, path: FilePath) -> bool:
        if self._read(path) is None:
            return False
        with held(self._record(path).parent):
            record = self._read(path)
            if record is None:
                return False
            self._record(path).unlink()
            sync_folder(self._record(path).parent)
            self._object(record.object_id).unlink(missing_ok=True)
            return True


def _exists(path: FilePath) -> Rejected:
    return Rejected(ProblemCode.ALREADY_EXISTS, f"{path} exists already with other bytes and was not replaced")

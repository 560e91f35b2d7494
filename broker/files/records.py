"""Records of users' files: what makes a file exist. Each names the object that holds its bytes.

A path never becomes a path on disk: a record's name is the hash of the path, so no path can reach outside, collide with
a folder, or be too deep. A record is put in place by one rename, so a reader sees the old file or the new, whole.
"""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import msgspec

from broker.domain.errors import Rejected
from broker.domain.paths import FilePath
from broker.files.durable import sync_folder, write_record
from broker.files.folders import make_private
from broker.files.locks import held
from broker.files.objects import Facts, ObjectName
from broker.wire.names import Digest, UserName
from broker.wire.problems import ProblemCode

RECORD_BYTES = 4_096
"""What a file takes beside its bytes, so that empty ones are bounded, too: the block of its record."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of one file beside its bytes."""

    path: str
    object_id: str
    size_bytes: int
    digest: str
    etag: str = ""
    """S3's own, of an object that is there."""

    @classmethod
    def of(cls, path: FilePath, object_id: str, facts: Facts) -> "Record":
        return cls(path.path, object_id, facts.size_bytes, facts.digest, facts.etag)

    @property
    def room_bytes(self) -> int:
        """How much of its user's room the file takes."""
        return RECORD_BYTES + self.size_bytes


class Records:
    """All records below one folder. Read and replace one as one step: under the `lock` of its path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_private(folder)

    def folder_of(self, user: UserName) -> Path:
        return self._folder / user

    def lock(self, path: FilePath) -> AbstractContextManager[None]:
        """Return the lock under which a path's record changes, in a thread; others respect it in other processes."""
        folder = self._path(path).parent
        make_private(folder)
        return held(folder)

    def exists(self, path: FilePath) -> bool:
        return self._path(path).exists()

    def read(self, path: FilePath) -> Record | None:
        return _read(self._path(path))

    def modified_s(self, path: FilePath) -> float:
        """Return when the record was written, in seconds since the epoch; 0.0 where there is none."""
        try:
            return self._path(path).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def read_same(self, path: FilePath, digest: Digest) -> Record | None:
        """Return the record of a file with these bytes; None when there is no file.

        Raises:
            Rejected: `already_exists`: it has other bytes.
        """
        record = self.read(path)
        if record is not None and record.digest != digest:
            raise already_exists(path)
        return record

    def names(self, name: ObjectName) -> bool:
        """Tell whether a record names the object."""
        record = _read(self._folder / name.user / name.file[:2] / f"{name.file}.json")
        return record is not None and record.object_id == name.object_id

    def write(self, path: FilePath, record: Record) -> None:
        target = self._path(path)
        beside = target.with_suffix(f".{record.object_id}")
        write_record(target, msgspec.json.encode(record), beside)

    def remove(self, path: FilePath) -> None:
        target = self._path(path)
        target.unlink()
        sync_folder(target.parent)

    def users(self) -> list[UserName]:
        """Return who ever had a file."""
        return [UserName(folder.name) for folder in self._folder.iterdir()]

    def of_user(self, user: UserName) -> Iterator[Record]:
        for path in self.folder_of(user).glob("*/*.json"):
            if record := _read(path):
                yield record

    def _path(self, path: FilePath) -> Path:
        name = hash_of(path)
        return self._folder / path.user / name[:2] / f"{name}.json"


def hash_of(path: FilePath) -> str:
    """Return the name that a path has on disk."""
    return hashlib.sha256(path.path.encode()).hexdigest()


def object_of(path: FilePath, object_id: str) -> ObjectName:
    return ObjectName(path.user, hash_of(path), object_id)


def already_exists(path: FilePath) -> Rejected:
    return Rejected(ProblemCode.ALREADY_EXISTS, f"{path} exists already with other bytes and was not replaced")


def _read(path: Path) -> Record | None:
    with suppress(FileNotFoundError):
        return msgspec.json.decode(path.read_bytes(), type=Record)
    return None

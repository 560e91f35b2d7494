"""Uploads that go straight to where objects are: each is noted before it begins, with the size and digest it must have.

A note takes its user's room, names the object that the upload is to write, and makes no file: only what S3 then tells
of the object does. One path may have several, one for each content. A note lives below `pending/USER/HASH OF THE PATH`,
and is as old as the last address that was signed for it.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from broker.domain.paths import FilePath
from broker.files.durable import write_record
from broker.files.folders import make_private
from broker.files.objects import ObjectName
from broker.files.records import RECORD_BYTES, hash_of
from broker.wire.names import UserName

ADDRESS_LIFE_S = 900
"""How long a signed address is good for, as one of the broker's own."""
ABANDONED_S = ADDRESS_LIFE_S + 6 * 3_600
"""A PUT must have begun within its address's life; the largest then comes in time at 240 kB/s."""


class Note(msgspec.Struct, frozen=True):
    """What an upload must bring. `create_only`: it makes a file and never replaces one."""

    path: str
    object_id: str
    size_bytes: int
    digest: str
    create_only: bool

    @property
    def room_bytes(self) -> int:
        """How much of its user's room it takes."""
        return RECORD_BYTES + self.size_bytes


class Pending:
    """All notes below one folder. Change those of a path only under the lock of the path's record."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_private(folder)

    def is_noted(self, path: FilePath) -> bool:
        """Tell whether there may be a note of a path, at once."""
        return self._of(path).exists()

    def of_path(self, path: FilePath) -> list[Note]:
        """Return the notes of one path, those first whose address was signed first."""
        found = [(each, note) for each in self._of(path).glob("*.json") if (note := _read(each))]
        return [note for _, note in sorted(found, key=lambda each: (_signed_s(each[0]), each[0]))]

    def of_user(self, user: UserName) -> Iterator[Note]:
        """Yield the notes of one user."""
        for path in (self._folder / user).glob("*/*.json"):
            if note := _read(path):
                yield note

    def users(self) -> list[UserName]:
        """Return who ever had an upload."""
        return [UserName(folder.name) for folder in self._folder.iterdir()]

    def names(self, name: ObjectName) -> bool:
        """Tell whether a note names the object."""
        notes = (_read(path) for path in (self._folder / name.user / name.file).glob("*.json"))
        return any(note is not None and note.object_id == name.object_id for note in notes)

    def has(self, path: FilePath, note: Note) -> bool:
        """Tell whether the note is there as it was."""
        return _read(self._path(path, note.digest)) == note

    def sign(self, path: FilePath, digest: str) -> Note | None:
        """Return the note of a content, which is as good as new then; None when there is none."""
        at = self._path(path, digest)
        note = _read(at)
        if note is not None:
            os.utime(at)
        return note

    def add(self, path: FilePath, note: Note) -> None:
        """Write a note, in place of one of the same content."""
        at = self._path(path, note.digest)
        make_private(at.parent)
        write_record(at, msgspec.json.encode(note), at.with_suffix(".new"))

    def remove(self, path: FilePath, note: Note) -> None:
        at = self._path(path, note.digest)
        at.unlink(missing_ok=True)
        with suppress(OSError):  # another one is in it, or it is gone
            at.parent.rmdir()

    def is_abandoned(self, path: FilePath, note: Note) -> bool:
        """Tell whether no upload by an address of this note can still be on its way."""
        return _signed_s(self._path(path, note.digest)) < time.time() - ABANDONED_S

    def _of(self, path: FilePath) -> Path:
        return self._folder / path.user / hash_of(path)

    def _path(self, path: FilePath, digest: str) -> Path:
        return self._of(path) / f"{digest.removeprefix('sha256:')}.json"


def _read(path: Path) -> Note | None:
    with suppress(FileNotFoundError):
        return msgspec.json.decode(path.read_bytes(), type=Note)
    return None


def _signed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()

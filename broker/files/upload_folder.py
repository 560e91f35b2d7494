"""What is kept of uploads on the disk: of each a record, and its bytes until it is finished."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from broker.files.durable import write_record
from broker.files.folders import make_private
from broker.files.locks import held
from broker.files.upload import Purpose, Record
from broker.wire.names import Digest, UserName

_ID = re.compile(r"[0-9a-f]{32}")


class Standing(NamedTuple):
    """How far an upload came."""

    upload: str
    digest: Digest
    size_bytes: int
    offset_bytes: int
    is_finished: bool
    purpose: Purpose = Purpose.IMAGE
    file: str = ""

    @classmethod
    def of(cls, upload: str, record: Record, offset_bytes: int) -> "Standing":
        return cls(
            upload,
            Digest(record.digest),
            record.size_bytes,
            offset_bytes,
            record.is_finished,
            record.purpose,
            record.file,
        )


class UploadFolder:
    """The records and bytes of all users. Change them under the lock of the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_private(folder)

    def standing(self, user: UserName, upload: str) -> Standing | None:
        record = self.read(user, upload)
        if record is None:
            return None
        if record.is_finished:
            offset_bytes = record.size_bytes
        else:
            try:
                offset_bytes = self.part(user, upload).stat().st_size
            except FileNotFoundError:
                return None
        return Standing.of(upload, record, offset_bytes)

    def unfinished(self, user: UserName) -> Iterator[Standing]:
        for path in sorted((self._folder / user).glob("*.json")):
            standing = self.standing(user, path.stem)
            if standing is not None and not standing.is_finished:
                yield standing

    def announced_bytes(self) -> int:
        """Return how many bytes all unfinished uploads still want."""
        users = [UserName(folder.name) for folder in self._folder.iterdir()]
        return sum(each.size_bytes - each.offset_bytes for user in users for each in self.unfinished(user))

    def old(self, abandoned_s: float) -> Iterator[tuple[UserName, str]]:
        before_s = time.time() - abandoned_s
        for record in self._folder.glob("*/*.json"):
            part = record.with_suffix(".part")
            try:
                touched_s = (part if part.exists() else record).stat().st_mtime
            except FileNotFoundError:
                continue
            if touched_s < before_s:
                yield UserName(record.parent.name), record.stem

    def clear_leftovers(self, abandoned_s: float) -> None:
        """Remove what a broker left that died in the midst: bytes without a record, a record without its bytes."""
        before_s = time.time() - abandoned_s
        with held(self._folder):
            for path in self._folder.glob("*/*"):
                user, upload = UserName(path.parent.name), path.name.partition(".")[0]
                is_whole = path.suffix in {".json", ".part"} and self.standing(user, upload) is not None
                with suppress(FileNotFoundError):  # a join takes away what it wrote without this lock
                    if not is_whole and path.stat().st_mtime < before_s:
                        path.unlink()

    def record(self, user: UserName, upload: str) -> Path:
        return self._folder / user / f"{upload}.json"

    def part(self, user: UserName, upload: str) -> Path:
        return self._folder / user / f"{upload}.part"

    def read(self, user: UserName, upload: str) -> Record | None:
        if not _ID.fullmatch(upload):
            return None
        try:
            return msgspec.json.decode(self.record(user, upload).read_bytes(), type=Record)
        except FileNotFoundError:
            return None

    def write(self, user: UserName, upload: str, record: Record) -> None:
        path = self.record(user, upload)
        write_record(path, msgspec.json.encode(record), path.with_suffix(".new"))

"""The archive: a gzipped tar, which the smallest of systems unpacks, the same bytes from the same files."""

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import BinaryIO, Final, NamedTuple

from launcher.bundle.contents import Member
from launcher.bundle.failure import CannotBundle
from launcher.bundle.layout import MANIFEST

_LEVEL: Final = 6
_EPOCH_S: Final = 315_532_800
"""1980-01-01, where no release's date is given: the earliest that archives of every kind can tell."""


class Written(NamedTuple):
    """What an archive came to."""

    files: int
    size_bytes: int
    unpacked_bytes: int


def write_archive(output: BinaryIO, top: str, members: Iterable[Member]) -> Written:
    """Write the members below the folder `top`, and at last their manifest, as `sha256sum --check` reads it.

    Raises:
        CannotBundle: SOURCE_DATE_EPOCH is no number.
        OSError: the output could not take it, or a member not be read.
    """
    mtime_s, manifest, unpacked_bytes = _time_s(), list[str](), 0
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=output, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        folders: set[PurePosixPath] = set()
        for member in members:
            content = member.read()
            manifest.append(f"{hashlib.sha256(content).hexdigest()}  {member.path}\n")
            unpacked_bytes += len(content)
            for folder in reversed(member.path.parents):
                if folder not in folders:
                    folders.add(folder)
                    tar.addfile(_entry(top, folder, mtime_s, mode=0o755, kind=tarfile.DIRTYPE))
            _add(tar, top, member, content, mtime_s)
        last = Member(MANIFEST, "".join(manifest).encode())
        _add(tar, top, last, last.read(), mtime_s)
    return Written(len(manifest) + 1, output.tell(), unpacked_bytes)


def _add(tar: tarfile.TarFile, top: str, member: Member, content: bytes, mtime_s: int) -> None:
    entry = _entry(top, member.path, mtime_s, mode=0o755 if member.is_program else 0o644, kind=tarfile.REGTYPE)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _entry(top: str, path: PurePosixPath, mtime_s: int, *, mode: int, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(str(PurePosixPath(top) / path))
    entry.type, entry.mode, entry.mtime = kind, mode, mtime_s
    return entry


def _time_s() -> int:
    """Return every file's time. Source: reproducible-builds.org, "SOURCE_DATE_EPOCH"."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if told and not told.isdecimal():
        raise CannotBundle(f"SOURCE_DATE_EPOCH is {told!r}: give it as whole seconds since 1970, or not at all")
    return int(told) if told else _EPOCH_S

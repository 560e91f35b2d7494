"""Removal of folders that a guest could write to, whatever it put there: trees of any depth, names of any length.

A folder's own subfolders are moved up beside it before it is removed, so that neither the stack nor the number of open
descriptors grows with the depth of a tree, and no path is longer than one name. No link is followed.

Source: openat(2), renameat(2), unlinkat(2).
"""

import contextlib
import itertools
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BATCH: Final = 10_000
"""Names of folders that are held in memory at a time."""


def remove_tree(path: Path) -> None:
    """Remove a file, or a folder with all it contains. Blocks.

    Never raises: what cannot be removed stays, and the log tells of it.
    """
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
        with _opened(path, None) as top:
            _Removal(top).clear()
        path.rmdir()
    except FileNotFoundError:
        pass
    except Exception as error:  # noqa: BLE001 - a folder that stays must end neither a launcher nor its other vms
        log.warning("folder_not_removed", path=str(path), reason=str(error))


class _Removal:
    def __init__(self, top: int) -> None:
        self._top = top
        self._device = os.fstat(top).st_dev

    def clear(self) -> None:
        """Remove all that is in the folder, as far as that can be done."""
        stuck: set[str] = set()
        while folders := set(_sweep(self._top)) - stuck:
            stuck |= {name for name in folders if not self._dissolve(name)}

    def _dissolve(self, name: str) -> bool:
        """Remove a folder after moving those in it up; tell whether it is gone."""
        try:
            with _opened(name, self._top) as folder:
                if os.fstat(folder).st_dev != self._device:
                    return False
                while sum(self._lift(folder, found) for found in _sweep(folder)):
                    pass
            os.rmdir(name, dir_fd=self._top)
        except OSError:
            return False
        return True

    def _lift(self, folder: int, name: str) -> bool:
        try:
            # A name that a guest cannot have taken.
            os.rename(name, uuid.uuid4().hex, src_dir_fd=folder, dst_dir_fd=self._top)
        except OSError:
            return False
        return True


def _sweep(folder: int) -> list[str]:
    """Remove what is no folder; return the names of the folders, a batch of them."""
    with os.scandir(folder) as entries:
        return list(itertools.islice(_folders_among(entries, folder), _BATCH))


def _folders_among(entries: "Iterator[os.DirEntry[str]]", folder: int) -> Iterator[str]:
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield entry.name
            continue
        with contextlib.suppress(OSError):
            os.unlink(entry.name, dir_fd=folder)


@contextmanager
def _opened(path: Path | str, parent: int | None) -> Iterator[int]:
    # A guest that shares a folder with an ordinary user's launcher may have taken every right to it away.
    handle = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        with contextlib.suppress(PermissionError):
            Path(f"/proc/self/fd/{handle}").chmod(0o700)
        descriptor = os.open(".", _FOLDER, dir_fd=handle)
    finally:
        os.close(handle)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

"""What a shared folder takes on the node while its guest writes to it, and how much that may be.

Nothing else bounds it: a share is a plain folder of the node. It is looked through again and again, so a guest must not
be able to make a look slow: one ends at the first bound that is broken, and folders are opened one below the other,
which costs no more the deeper they lie. No link is followed. A file counts by the blocks that it takes, once however
many names it has.

Source: stat(2), st_blocks.
"""

import os
import stat
from pathlib import Path
from typing import Final

MAX_ENTRIES: Final = 50_000
MAX_DEPTH: Final = 40

_BLOCK_BYTES: Final = 512
_HIDDEN: Final = "the guest has a folder in its shared folder that the launcher may not look into"
_MIB: Final = 1_048_576
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Broken(Exception):
    """A bound is broken; the text is a sentence."""


def why_too_much(share: Path, disk_mib: int) -> str | None:
    """Say which bound a share breaks, as a sentence; None when it keeps them. Blocks, and not for long.

    Raises:
        OSError: the share itself cannot be opened.
    """
    top = os.open(share, _FOLDER)
    try:
        _Look(disk_mib).through(top, MAX_DEPTH)
    except _Broken as broken:
        return str(broken)
    finally:
        os.close(top)
    return None


class _Look:
    def __init__(self, disk_mib: int) -> None:
        self._disk_mib = disk_mib
        self._entries = 0
        self._bytes = 0
        self._named_twice: set[int] = set()

    def through(self, folder: int, levels: int) -> None:
        """Count what is in an open folder and, so many levels down, below it."""
        if levels < 0:
            raise _Broken(f"the guest made more than {MAX_DEPTH} levels of folders in its shared folder")
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except PermissionError:
                    raise _Broken(_HIDDEN) from None
                self._count(status)
                if stat.S_ISDIR(status.st_mode):
                    self._below(folder, entry.name, levels - 1)

    def _below(self, parent: int, name: str, levels: int) -> None:
        try:
            folder = os.open(name, _FOLDER, dir_fd=parent)
        except PermissionError:
            raise _Broken(_HIDDEN) from None
        except OSError:
            # Gone, or something else, since it was listed.
            return
        try:
            self.through(folder, levels)
        finally:
            os.close(folder)

    def _count(self, status: os.stat_result) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise _Broken(f"the guest made more than {MAX_ENTRIES} files and folders in its shared folder")
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            if status.st_ino in self._named_twice:
                return
            self._named_twice.add(status.st_ino)
        self._bytes += status.st_blocks * _BLOCK_BYTES
        if self._bytes > self._disk_mib * _MIB:
            raise _Broken(
                f"the shared folder holds more than the {self._disk_mib} MiB of the stream's needs.disk_mib, "
                "the input among them"
            )

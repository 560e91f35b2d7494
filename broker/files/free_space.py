"""How full the disk may get: below a floor of free space nothing more is taken in, and what runs can still settle."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.domain.errors import Unavailable
from broker.wire.problems import ProblemCode

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class FreeSpace:
    """The disk that `folder` lies on, and how much of it must stay free."""

    def __init__(self, folder: Path, *, floor_bytes: int) -> None:
        self._folder = folder
        self._floor_bytes = floor_bytes

    def is_short(self, more_bytes: int = 0) -> bool:
        """Tell whether less would be free than must be once `more_bytes` came, for a process without root's reserve."""
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize - more_bytes < self._floor_bytes

    def check(self, more_bytes: int = 0) -> None:
        """Return when there is room for more.

        Raises:
            Unavailable: `store_disk_full`.
        """
        if self.is_short(more_bytes):
            raise disk_full()


def disk_full() -> Unavailable:
    """Return what is said when the disk takes no more files."""
    return Unavailable(
        ProblemCode.STORE_DISK_FULL,
        "the disk of the broker's files is full, and nothing was kept: free some space",
        retry_after_s=60,
    )


@contextmanager
def disk_full_told() -> Iterator[None]:
    """Say of a block's writing that the disk is full, where that ended it.

    Raises:
        Unavailable: `store_disk_full`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise disk_full() from error
        raise

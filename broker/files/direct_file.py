"""A new file that is written past the page cache, in whole blocks, where its file system knows how to."""

import errno
import fcntl
import os
import threading
from pathlib import Path


class DirectFile:
    """A new file, readable by nobody else; every method is for a thread, and waits for whichever came before.

    It is made by the first thread that writes to it: nobody is left with one that is open when that was cancelled.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: int | None = None
        self._size_bytes = 0
        self._is_direct: bool | None = None
        # A cancelled await leaves its thread behind: it must not write once the file is closed.
        self._one_at_a_time = threading.Lock()
        self._is_closed = False

    def write_block(self, block: memoryview) -> None:
        """Write memory that begins at a page, and is some pages long; nothing is written when the file is closed."""
        with self._one_at_a_time:
            if self._is_closed:
                return
            descriptor = self._open()
            if self._is_direct is None:
                self._is_direct = _set_direct(descriptor)
            try:
                _write(descriptor, block)
            except OSError as error:
                # A file system may learn only now that it cannot. Nothing of the block was counted: it is written anew.
                if error.errno != errno.EINVAL or not self._is_direct:
                    raise
                self._unset_direct(descriptor)
                os.lseek(descriptor, self._size_bytes, os.SEEK_SET)
                _write(descriptor, block)
            self._size_bytes += len(block)

    def finish(self, rest: memoryview) -> None:
        """Write what is no whole block, and make all of the file durable."""
        with self._one_at_a_time:
            if self._is_closed:
                return
            descriptor = self._open()
            if self._is_direct:
                self._unset_direct(descriptor)
            _write(descriptor, rest)
            os.fsync(descriptor)

    def close(self) -> None:
        with self._one_at_a_time:
            self._is_closed = True
            if self._opened is not None:
                os.close(self._opened)

    def _open(self) -> int:
        if self._opened is None:
            self._opened = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        return self._opened

    def _unset_direct(self, descriptor: int) -> None:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        self._is_direct = False


def _write(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def _set_direct(descriptor: int) -> bool:
    """Tell whether the file system takes it. Source: fcntl(2), F_SETFL; open(2), O_DIRECT."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
    except OSError:
        return False
    return True

"""A new file that is written past the page cache, in whole blocks, where its file system knows how to."""

import errno
import fcntl
import os
import threading
from pathlib import Path


class DirectFile:
    """A new file, readable by nobody else; every method is for a thread, and waits for whichever came before."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
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
            if self._is_direct is None:
                self._is_direct = self._set_direct()
            try:
                self._write(block)
            except OSError as error:
                # A file system may learn only now that it cannot. Nothing of the block was counted: it is written anew.
                if error.errno != errno.EINVAL or not self._is_direct:
                    raise
                self._unset_direct()
                os.lseek(self._descriptor, self._size_bytes, os.SEEK_SET)
                self._write(block)
            self._size_bytes += len(block)

    def finish(self, rest: memoryview) -> None:
        """Write what is no whole block, and make all of the file durable."""
        with self._one_at_a_time:
            if self._is_closed:
                return
            if self._is_direct:
                self._unset_direct()
            self._write(rest)
            os.fsync(self._descriptor)

    def close(self) -> None:
        with self._one_at_a_time:
            self._is_closed = True
            os.close(self._descriptor)

    def _write(self, view: memoryview) -> None:
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _set_direct(self) -> bool:
        """Source: fcntl(2), F_SETFL; open(2), O_DIRECT."""
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        except OSError:
            return False
        return True

    def _unset_direct(self) -> None:
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        self._is_direct = False

"""A vm's console log: kept small while the guest writes it, and its tail for the verdict.

QEMU appends to the file without end, and a guest may write what it likes, so a log that grew too large is begun anew
and the end of the old one kept in memory; between the two a few bytes may be lost. Only the tail is ever told.

The log's folder belongs to QEMU's account, and a guest that broke out of QEMU may put anything there under the log's
name, while the launcher may be root. So the name is opened without following a link or waiting for anybody, and what is
there is read or cut only if it is a plain file with no second name.

Source: open(2), O_NOFOLLOW and O_NONBLOCK.
"""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

log = structlog.get_logger()

TRIM_BYTES = 4 << 20
KEPT_BYTES = 64 << 10


class Console:
    """The log at `path`, and the end of what was trimmed; one object for a vm's life, of use to several threads.

    A log that cannot be used is told once in the launcher's log, and is no reason for anything else to end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._earlier = b""
        self._told = False
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Return the log's name in its folder."""
        return self._path.name

    def trim(self) -> None:
        """Begin the log anew when it is too large, keeping the end of the old one. Blocks."""
        with self._lock, self._opened(os.O_RDWR) as descriptor:
            if descriptor is not None and os.fstat(descriptor).st_size > TRIM_BYTES:
                end = _end_of(descriptor, KEPT_BYTES)
                os.ftruncate(descriptor, 0)
                self._earlier = end

    def tail(self, limit_bytes: int) -> bytes:
        """Return the last bytes that the guest wrote, empty when it wrote none. Blocks."""
        now = b""
        with self._lock, self._opened(os.O_RDONLY) as descriptor:
            if descriptor is not None:
                now = _end_of(descriptor, limit_bytes)
        return (self._earlier + now)[-limit_bytes:]

    @contextmanager
    def _opened(self, access: int) -> Iterator[int | None]:
        """Yield the log's descriptor, None where there is no log; an `OSError` inside ends the block, and is told."""
        try:
            descriptor = os.open(self._path, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            # QEMU has not opened it yet.
            yield None
            return
        except OSError as error:
            self._tell(str(error.strerror))
            yield None
            return
        try:
            yield descriptor if self._is_a_log(descriptor) else None
        except OSError as error:
            self._tell(str(error.strerror))
        finally:
            os.close(descriptor)

    def _is_a_log(self, descriptor: int) -> bool:
        status = os.fstat(descriptor)
        # Where hard links are not protected (proc_sys_fs(5)), a second name may be that of another account's file.
        if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
            return True
        self._tell("it is no plain file of its own")
        return False

    def _tell(self, reason: str) -> None:
        if not self._told:
            log.warning("console_log_unusable", path=str(self._path), reason=reason)
        self._told = True


def _end_of(descriptor: int, limit_bytes: int) -> bytes:
    return os.pread(descriptor, limit_bytes, max(0, os.fstat(descriptor).st_size - limit_bytes))

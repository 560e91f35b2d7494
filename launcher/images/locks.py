"""Locks between launchers, by flock(2): the kernel lets go of them when their holder dies.

They are polled: a thread that blocks in flock cannot be cancelled when its vm is. Whoever can open a lock can hold it,
so they are the account's alone where the folder is.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from launcher.images.errors import CacheFailed
from launcher.images.folder import OTHERS_WRITE, is_named, open_regular

_POLL_S: Final = 0.1
_STALLED_S: Final = 900.0
"""A holder under whose hands nothing changes for longer than all tries of one source take has hung."""
_MAKING_S: Final = 5.0
"""What a lock's maker may take until every account may open it."""
_LOCKS: Final = Path("/proc/locks")


def try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Take the lock unless another open file has one that forbids it; tell whether it was taken."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def locked(path: Path, progress: Callable[[], object] = lambda: None) -> AsyncIterator[None]:
    """Hold the lock for the block; wait for its holder as long as `progress` changes.

    Raises:
        CacheFailed: the holder has hung.
        OSError: the lock's file cannot be made or opened.
    """
    clock = asyncio.get_running_loop().time
    seen, stalls_at_s = progress(), clock() + _STALLED_S
    while (descriptor := _try_file(path)) is None:
        await asyncio.sleep(_POLL_S)
        if (now := progress()) != seen:
            seen, stalls_at_s = now, clock() + _STALLED_S
        elif clock() > stalls_at_s:
            raise CacheFailed(f"{_holder(path)} holds {path} and got no further for {_STALLED_S:g} s: end that process")
    try:
        yield
    finally:
        os.close(descriptor)


def _try_file(path: Path) -> int | None:
    try:
        descriptor = _open(path)
    except PermissionError:
        if abs(time.time() - path.lstat().st_ctime) > _MAKING_S:
            raise
        return None
    # An evicting launcher may have removed the file that was opened: then a newcomer would lock another.
    if try_lock(descriptor) and is_named(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def _open(path: Path) -> int:
    # Without O_CREAT first: fs.protected_regular refuses it on another account's file in a sticky folder.
    with suppress(FileNotFoundError):
        try:
            return open_regular(path, os.O_RDWR)
        except PermissionError:
            return open_regular(path)
    try:
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return open_regular(path)
    folder = path.parent.stat()
    if folder.st_mode & OTHERS_WRITE:
        # Whatever the umask: the others must be able to open it.
        os.fchmod(descriptor, 0o644)
    elif os.geteuid() == 0:
        os.fchown(descriptor, folder.st_uid, folder.st_gid)
    return descriptor


def _holder(path: Path) -> str:
    """Return who holds the lock, as far as the kernel tells."""
    try:
        status = path.lstat()
        file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in _LOCKS.read_text(encoding="ascii").splitlines():
            fields = line.split()
            if "->" not in fields and file in fields:
                pid = fields[fields.index(file) - 1]
                return f"process {pid} of uid {Path('/proc', pid).stat().st_uid}"
    except OSError:
        pass
    return "somebody"

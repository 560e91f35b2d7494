"""Locks on files: held against other threads and other processes alike, and gone with whoever held them.

Source: flock(2): the lock belongs to one opening of the file.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from broker.domain.errors import Unavailable
from broker.wire.problems import ProblemCode

_POLL_S = 0.02


def lock_at_once(path: Path, flags: int) -> int | None:
    """Open a file with `flags` and lock it; None when somebody else has it. Closing the descriptor lets go.

    Raises:
        FileNotFoundError: there is no such file, or it was removed by who had it.
    """
    descriptor = os.open(path, flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
        raise FileNotFoundError(path)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise


def share(folder: Path) -> int:
    """Lock a folder for many, in a thread; closing the descriptor lets go."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def is_idle(folder: Path) -> bool:
    """Tell whether nobody has a lock on a folder, in this process or another."""
    descriptor = lock_at_once(folder, os.O_RDONLY | os.O_DIRECTORY)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder for the block, in a thread: whoever waits for it waits in the kernel, first come first.

    For what takes milliseconds and waits for nobody else.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@asynccontextmanager
async def locked(folder: Path, *, wait_s: float) -> AsyncIterator[None]:
    """Hold the lock on a folder for the block.

    Raises:
        Unavailable: somebody else kept it for all of `wait_s`.
    """
    ends_s = time.monotonic() + wait_s
    while (descriptor := lock_at_once(folder, os.O_RDONLY | os.O_DIRECTORY)) is None:
        if time.monotonic() > ends_s:
            raise Unavailable(ProblemCode.STORE_UNAVAILABLE, f"another request keeps the {folder.name}: try again")
        await asyncio.sleep(_POLL_S)
    try:
        yield
    finally:
        os.close(descriptor)

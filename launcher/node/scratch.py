"""The launcher's scratch folder: everything that dies with it.

One folder for each launcher process, held by a lock while the process lives. What a killed launcher left behind is
known by the lock that nobody holds, and removed by the next launcher on the same parent folder.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "vmb-"
_LOCK = "lock"
MAX_PATH_BYTES = 60
"""A Unix socket's path may have 107 bytes (unix(7)); a vm's own part of it takes 40."""


class ScratchError(Exception):
    """The scratch folder cannot be used; the text says what to do."""


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Make a fresh folder under `parent`, hold it, and remove it with all it contains at the end.

    Raises:
        ScratchError: the parent cannot be written, or its path is too long for the sockets in it.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    except OSError as error:
        raise ScratchError(f"no scratch folder can be made in {parent}: {error.strerror}; name another one") from error
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        if len(os.fsencode(folder)) > MAX_PATH_BYTES:
            raise ScratchError(f"{folder} is too long for the sockets in it; name a scratch folder with a shorter path")
        # QEMU's account passes through to its own vm's folder; it may list nothing here.
        folder.chmod(0o711)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_leftovers(parent: Path) -> list[Path]:
    """Remove the folders under `parent` whose launcher is gone; return them. Folders of other accounts are let be."""
    removed = []
    for folder in sorted(parent.glob(f"{_PREFIX}*")):
        if folder.is_dir() and folder.stat().st_uid == os.geteuid() and not _is_held(folder / _LOCK):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # Between another launcher's mkdtemp and its lock: too young to judge.
        return lock.parent.exists() and _is_young(lock.parent)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_young(folder: Path) -> bool:
    # Compared with a file made now, on the same file system: no clock of ours decides.
    with tempfile.NamedTemporaryFile(dir=folder.parent, prefix=".now-") as now:
        return Path(now.name).stat().st_mtime - folder.stat().st_mtime < 60

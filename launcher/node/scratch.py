"""The launcher's scratch folder: everything that dies with it.

One folder for each launcher process, held by a lock while the process lives. What a killed launcher left behind is
known by the lock that nobody holds, and removed by the next launcher on the same parent folder. The folder itself is
locked as well: what clears old files out of /tmp may take the lock file away, and leaves a locked folder alone.

Only that lock file, with our words in it, makes a folder ours to remove: the parent may be /tmp, where people keep
folders of any name. The file gets its name when it is held and written, and is the last thing to go, so a launcher that
begins is never taken for a dead one, and a removal that was cut short is finished by the next.
"""

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.node.removal import remove_tree

PREFIX = "vmb-node-"
LOCK_FILE = "lock"
_MAGIC = b"scratch folder of a vmbroker launcher; removed when nobody holds a lock on this file\n"
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
        folder, locks = _make_held_folder(parent)
    except OSError as error:
        raise ScratchError(f"no scratch folder can be made in {parent}: {error.strerror}; name another one") from error
    try:
        if len(os.fsencode(folder)) > MAX_PATH_BYTES:
            raise ScratchError(f"{folder} is too long for the sockets in it; name a scratch folder with a shorter path")
        # QEMU's account passes through to its own vm's folder; it may list nothing here.
        folder.chmod(0o711)
        yield folder
    finally:
        _remove(folder)
        _let_go(locks)


def renew(folder: Path) -> None:
    """Set the times of the lock anew, so that nothing takes it for an old file."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(folder / LOCK_FILE, follow_symlinks=False)


def remove_leftovers(parent: Path) -> list[Path]:
    """Remove the folders under `parent` whose launcher is gone; return them.

    Folders of other accounts are let be, and so is whatever no launcher made.
    """
    return [folder for folder in sorted(parent.glob(f"{PREFIX}*")) if _remove_if_left(folder)]


def mark_of(folder: Path) -> str:
    """Return what tells a launcher's scratch folder from every other one that this node ever had or will have."""
    parent = folder.parent.stat()
    return f"{parent.st_dev}:{parent.st_ino}:{folder}"


def is_gone(mark: str) -> bool:
    """Say whether the launcher with a scratch folder of this mark is surely gone.

    Not, if the folder is out of this process's sight: its launcher may live in a container with a /tmp of its own. And
    not, as long as folder or lock file is held, one of them missing or not.
    """
    device, _, rest = mark.partition(":")
    inode, _, path = rest.partition(":")
    folder = Path(path)
    try:
        parent = folder.parent.stat()
        if (str(parent.st_dev), str(parent.st_ino)) != (device, inode):
            return False
        return not _is_held(folder)
    except FileNotFoundError:
        return folder.parent.is_dir()
    except OSError:
        return False


def _is_held(folder: Path) -> bool:
    """Tell whether a launcher holds the folder or its lock file.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if _is_locked(folder, os.O_DIRECTORY):
        return True
    try:
        return _is_locked(folder / LOCK_FILE)
    except FileNotFoundError:
        return False


def _is_locked(path: Path, flags: int = 0) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _make_held_folder(parent: Path) -> tuple[Path, list[int]]:
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        return folder, _hold(folder)
    except BaseException:
        remove_tree(folder)
        raise


def _hold(folder: Path) -> list[int]:
    """Lock the folder and its lock file; return what holds them while it is open."""
    draft = folder / f"{LOCK_FILE}.new"
    held = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        held.append(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        for descriptor in held:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(held[-1], _MAGIC)
        draft.rename(folder / LOCK_FILE)
    except BaseException:
        _let_go(held)
        raise
    return held


def _let_go(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _remove_if_left(folder: Path) -> bool:
    try:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return False
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # No lock of ours, or gone meanwhile: either way nothing that a launcher left.
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.read(lock, len(_MAGIC) + 1) != _MAGIC:
            return False
        _remove(folder)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _remove(folder: Path) -> None:
    """Remove what can be removed, and the lock when nothing else is left."""
    with contextlib.suppress(OSError):
        for child in folder.iterdir():
            if child.name != LOCK_FILE:
                remove_tree(child)
        if [child.name for child in folder.iterdir()] == [LOCK_FILE]:
            (folder / LOCK_FILE).unlink()
            folder.rmdir()

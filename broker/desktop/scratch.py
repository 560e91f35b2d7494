"""The folder where copies are made: emptied whatever happens, and checked for room first."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from broker.desktop.failure import DesktopFailure

_PREFIX = "machine-"
_KEPT_FREE_BYTES = 256 * 1024 * 1024
"""Left to everything else on that disk."""
ROOTS_FOLDER = Path("/var/cache/vmbroker-desktop")


def usual_folder() -> Path:
    """Return where copies are made: as root never in somebody's home, whose owner its folder would shut out."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if os.geteuid() == 0 and existing.stat().st_uid != 0:
        return ROOTS_FOLDER
    return cache / "vmbroker" / "desktop"


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Give an empty folder below `parent` that is removed at the end, with what a killed command left there before.

    Raises:
        DesktopFailure: it cannot be made.
    """
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(parent)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    except OSError as error:
        raise DesktopFailure(
            f"{parent} cannot be written: {error.strerror}; name another with --work-folder"
        ) from error
    with _held(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def check_room(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin what the disk of `folder` has no room for.

    Raises:
        DesktopFailure: with what is needed and what is free.
    """
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes + _KEPT_FREE_BYTES > free_bytes:
        raise DesktopFailure(
            f"the copy may take {_gib(needed_bytes)}, and {folder} has {_gib(free_bytes)} free: "
            "name a folder with more room with --work-folder"
        )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep a lock that ends with this process, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(parent: Path) -> None:
    """Remove the folders of commands that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)

"""Room for images: the least recently used go, never one that a vm uses, and nothing goes in vain."""

import fcntl
import os
import stat
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import structlog

from launcher.images.errors import CacheFull
from launcher.images.folder import CacheFolder, Folder, Kept, is_named, kept_in, last_used_s, open_regular
from launcher.images.locks import try_lock
from launcher.images.source import Image

log = structlog.get_logger()

_STALE_S: Final = 86_400
_MIB: Final = 1 << 20


class Room:
    """The cache folder's bound: `limit_mib`, or nine tenths of what it has and what is free."""

    def __init__(self, folder: CacheFolder, limit_mib: int | None) -> None:
        self._folder = folder
        self._limit_mib = limit_mib

    def make(self, image: Image, part: Path) -> None:
        """Remove images until there is room for this one, of which `part` is there already. Blocks.

        Raises:
            CacheFull: the rest is in use, or not this account's to remove; then nothing was removed.
            OSError: the folder cannot be read.
        """
        self.remove_stale()
        with ExitStack() as held:
            folders = held.enter_context(self._folder.opened())
            kept = list(kept_in(folders))
            mine = next((one for one in kept if one.path == part), None)
            needed = image.size_bytes - (mine.disk_bytes if mine else 0)
            short = self._short_bytes(kept, part, needed)
            if short <= 0:
                return
            oldest_first = sorted((one for one in kept if one.is_image), key=lambda one: last_used_s(one, folders))
            going, in_use = _choose(oldest_first, short, held)
            freed = sum(one.disk_bytes for one in going)
            if freed < short:
                raise CacheFull(self._sentence(image, needed, short - freed, in_use))
            for one in going:
                self._evict(one)

    def remove_stale(self) -> None:
        """Remove downloads nobody went on with for a day, and what was noted of images that are gone. Blocks."""
        with self._folder.opened() as folders:
            for one in kept_in(folders):
                if time.time() - one.status.st_mtime >= _STALE_S and _is_stale(one, folders[0]):
                    with suppress(OSError):
                        _remove_unlocked(one)

    def _short_bytes(self, kept: list[Kept], part: Path, needed: int) -> int:
        """Return how much must go before `needed` can come."""
        disk = os.statvfs(self._folder.path)
        free = disk.f_bavail * disk.f_frsize
        used = sum(one.disk_bytes for one in kept)
        owed = sum(one.owed_bytes for one in kept if one.path != part)
        limit = (used + free) * 9 // 10 if self._limit_mib is None else self._limit_mib * _MIB
        return owed + needed - min(limit - used, free)

    def _evict(self, one: Kept) -> None:
        with suppress(FileNotFoundError):
            _unlink(one)
        for note in ("used", "public"):
            (self._folder.own / f"{one.name}.{note}").unlink(missing_ok=True)
        log.info("image_evicted", image=one.name, size_mib=one.disk_bytes // _MIB)

    def _sentence(self, image: Image, needed: int, missing: int, in_use: int) -> str:
        bound = "nine tenths of its disk" if self._limit_mib is None else f"{self._limit_mib} MiB"
        return (
            f"image {image.digest} needs {_mib(needed)} MiB in the cache {self._folder.path}, and {_mib(missing)} MiB "
            f"of that cannot be made free: the cache may take {bound}, vms use {_mib(in_use)} MiB of images there, and "
            "the rest is not this launcher's to remove; give it a larger --cache-mib or another --cache"
        )


def _mib(size_bytes: int) -> int:
    return -(-size_bytes // _MIB)


def _is_stale(one: Kept, shared: Folder) -> bool:
    """Whether nothing needs a file that nobody has touched for long. What is not the cache's own never is stale."""
    if one.image is None or one.is_image:
        return False
    is_shared = one.folder is shared
    if one.name.endswith(".lock") is not is_shared:
        return False
    return one.promised_bytes > 0 or not (shared.has(one.image) or one.folder.has(one.image))


def _choose(oldest_first: list[Kept], short: int, held: ExitStack) -> tuple[list[Kept], int]:
    """Return enough images to go, each locked; and what of the others is in use."""
    going: list[Kept] = []
    in_use = 0
    for one in oldest_first:
        if sum(chosen.disk_bytes for chosen in going) >= short:
            break
        if not _is_removable(one):
            continue
        if _hold_unused(one, held):
            going.append(one)
        else:
            in_use += one.disk_bytes
    return going, in_use


def _is_removable(one: Kept) -> bool:
    """Whether unlink(2) will let this account remove it: in a sticky folder only its own."""
    if not os.access(".", os.W_OK, dir_fd=one.folder.descriptor):
        return False
    parent = os.fstat(one.folder.descriptor)
    is_sticky = bool(parent.st_mode & stat.S_ISVTX)
    return not is_sticky or os.geteuid() in {0, one.status.st_uid, parent.st_uid}


def _hold_unused(one: Kept, held: ExitStack) -> bool:
    """Lock an image that no vm uses, so that none comes to use it; False when one does, or it cannot be read."""
    try:
        descriptor = open_regular(one.name, folder=one.folder.descriptor)
        held.callback(os.close, descriptor)
        return try_lock(descriptor, fcntl.LOCK_EX) and is_named(descriptor, one.name, folder=one.folder.descriptor)
    except OSError:
        return False


def _remove_unlocked(one: Kept) -> None:
    with ExitStack() as held:
        if _hold_unused(one, held):
            _unlink(one)


def _unlink(one: Kept) -> None:
    os.unlink(one.name, dir_fd=one.folder.descriptor)

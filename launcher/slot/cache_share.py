"""What the image cache may yet take of the disk on which vms write, so that no space is promised twice.

Source: stat(2), `st_dev`; statvfs(3).
"""

import os
from pathlib import Path
from typing import NamedTuple

from launcher.slot.words import MIB


class CacheShare(NamedTuple):
    """The cache's bound, None where that is its own to find; and what it may yet take of the scratch folder's space."""

    limit_mib: int | None
    growth_mib: int


def share_of_cache(cache: Path, scratch: Path, *, cache_mib: int | None, disk_mib: int | None) -> CacheShare:
    """Divide the free space of a disk that both are on: half to each, unless somebody has said how much either gets.

    Args:
        cache: The folder of images, or the next above that is there.
        scratch: Where vms write, or the next above that is there.
        cache_mib: What somebody said of the cache.
        disk_mib: What somebody said of the vms; then nothing is divided.
    """
    try:
        is_one_disk = cache.stat().st_dev == scratch.stat().st_dev
        status = os.statvfs(scratch)
        if not is_one_disk or disk_mib is not None:
            return CacheShare(cache_mib, 0)
        used_mib = _used_bytes(cache) // MIB
    except OSError:
        # Who uses the folder says what is wrong with it.
        return CacheShare(cache_mib, 0)
    free_mib = status.f_bavail * status.f_frsize // MIB
    if cache_mib is None:
        return CacheShare(max(1, used_mib + free_mib // 2), free_mib // 2)
    return CacheShare(cache_mib, min(free_mib, max(0, cache_mib - used_mib)))


def _used_bytes(cache: Path) -> int:
    """Return what the images take: those of all, and those of each account in a folder below."""
    folders = [cache, *(folder for folder in cache.glob("own-*") if os.access(folder, os.R_OK | os.X_OK))]
    files = [file.lstat() for folder in folders for file in folder.glob("sha256-*")]
    return sum(file.st_blocks * 512 for file in files)

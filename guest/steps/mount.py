"""Mounting: a folder that the node shares, by virtiofs where it serves that, else 9p over virtio; and memory.

By the system call, as an image may have no mount(8). A kernel that has the file systems as modules loads them itself
where it has a modprobe; where udev is slow or missing, we call that.
"""

import ctypes
import os
import time
from collections.abc import Sequence
from pathlib import Path

from guest.steps.modules import load_module

MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MNT_DETACH = 2
"""Source: mount(2), umount2(2), linux/mount.h."""
FILE_SYSTEMS = {"virtiofs": "", "9p": "trans=virtio,version=9p2000.L,msize=512000"}
"""With their options. Source: Linux Documentation/filesystems/virtiofs.rst, 9p.rst."""
MEMORY = {"tmpfs": "mode=0700,size=4m,nr_inodes=1k,noswap", "ramfs": "mode=0700"}
"""What never leaves memory; a kernel before 6.4 does not know `noswap`. Source: Documentation/filesystems/tmpfs.rst."""
MODULES = ("virtiofs", "9pnet_virtio", "9p")
LOOK_INTERVAL_S = 0.2
MOUNT_TIMEOUT_S = 10.0


class CannotMount(Exception):
    """Nothing could be mounted; the text says what was tried."""


def mount_share(tags: Sequence[str], folder: Path, timeout_s: float = MOUNT_TIMEOUT_S) -> str:
    """Mount the first of the shares that can be, at `folder`; returns what it is, such as `vmbroker by virtiofs`.

    Raises:
        CannotMount: none of them within `timeout_s`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline_s = time.monotonic() + timeout_s
    has_modules = False
    while True:
        faults: list[str] = []
        for tag, kind in [(tag, kind) for tag in tags for kind in FILE_SYSTEMS]:
            try:
                _mount(tag, folder, kind)
            except OSError as error:
                faults.append(f"{tag} by {kind}: {error.strerror}")
            else:
                return f"{tag} by {kind}"
        if not has_modules:
            has_modules = True
            for module in MODULES:
                load_module(module)
        elif time.monotonic() >= deadline_s:
            raise CannotMount(f"the shared folder cannot be mounted: {'; '.join(faults)}")
        else:
            time.sleep(LOOK_INTERVAL_S)


def mount_memory(folder: Path) -> None:
    """Mount a file system at `folder` that is never written to a disk, swap space included.

    Raises:
        CannotMount: the kernel lets us mount none.
    """
    faults: list[str] = []
    for kind, options in MEMORY.items():
        try:
            _mount_with("vmbroker", folder, kind, MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
        except OSError as error:
            faults.append(f"{kind}: {error.strerror}")
        else:
            return
    raise CannotMount(f"no file system in memory can be mounted: {'; '.join(faults)}")


def detach(folder: Path) -> None:
    """Take a mounted file system away, now or when the last one that uses it ends.

    Raises:
        OSError: it is none.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.umount2(os.fsencode(folder), MNT_DETACH))


def _mount(tag: str, folder: Path, kind: str) -> None:
    _mount_with(tag, folder, kind, MS_NOSUID | MS_NODEV, FILE_SYSTEMS[kind])


def _mount_with(source: str, folder: Path, kind: str, flags: int, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (os.fsencode(source), os.fsencode(folder), kind.encode())
    _check(libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()))


def _check(returned: int) -> None:
    if returned != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

"""The cache folder, the scratch folder and what lies under them."""

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from launcher.doctor.findings import Finding, fail, ok, warn
from launcher.doctor.node import Node
from launcher.hypervisor.access import may
from launcher.images import CacheFailed, CacheFolder
from launcher.node.scratch import MAX_PATH_BYTES, ScratchError, scratch_folder

_OTHER_CACHE: Final = "name another folder: --cache"
_TRIED_BYTES: Final = 1 << 20
_LITTLE_MIB: Final = 2_048
_LITTLE_SHM_MIB: Final = 64
_SHM: Final = Path("/dev/shm")  # noqa: S108 - looked at, not written to
_MOUNTS: Final = Path("/proc/self/mountinfo")


async def cache(node: Node) -> Iterable[Finding]:
    """The cache folder can be written by the launcher and read by QEMU's account."""
    folder = node.settings.cache
    try:
        CacheFolder(folder).prepare()
        with tempfile.NamedTemporaryFile(prefix="doctor-", dir=folder) as file:
            file.write(bytes(_TRIED_BYTES))
            file.flush()
            Path(file.name).chmod(0o444)
            is_reached = await may(node.account, os.R_OK, Path(file.name))
    except CacheFailed as error:
        return [fail(str(error), _OTHER_CACHE)]
    except OSError as error:
        return [fail(f"{folder} cannot be written: {error.strerror or error}", _OTHER_CACHE)]
    if not is_reached:
        found = f"QEMU's account, uid {node.account.uid}, cannot read files in {folder}"
        return [fail(found, _way_to(folder, _OTHER_CACHE))]
    return [_ownership(folder), *_space(folder, "for images")]


async def scratch(node: Node) -> Iterable[Finding]:
    """The scratch folder takes sockets, is reached by QEMU's account, and has room."""
    parent = node.settings.scratch
    try:
        with scratch_folder(parent) as folder:
            is_reached = await may(node.account, os.X_OK, folder)
    except ScratchError as error:
        mend = f"name another one: --scratch; a path of up to {MAX_PATH_BYTES} bytes, our own part of some 18 included"
        return [fail(str(error), mend)]
    if not is_reached:
        found = f"QEMU's account, uid {node.account.uid}, cannot enter {parent}"
        return [fail(found, _way_to(parent, "name another folder: --scratch"))]
    return [*_space(parent, "for what vms write"), *_memory_backed(parent)]


async def shared_memory(node: Node) -> Iterable[Finding]:
    """QEMU keeps what it emulates of a share's memory in memfd, which needs no /dev/shm; others of its helpers do."""
    del node
    try:
        status = os.statvfs(_SHM)
    except OSError as error:
        return [warn(f"{_SHM} is not there: {error.strerror}", "mount a tmpfs there")]
    free_mib = status.f_bavail * status.f_frsize >> 20
    if free_mib < _LITTLE_SHM_MIB:
        return [warn(f"{_SHM} has {free_mib} MiB free", "in a container: give it a larger /dev/shm")]
    return [ok(f"{_SHM} has {free_mib:,} MiB free")]


def _ownership(folder: Path) -> Finding:
    status = folder.stat()
    mode = stat.S_IMODE(status.st_mode)
    told = f"{folder} is of uid {status.st_uid}, mode {mode:04o}"
    if mode & 0o002 and not mode & stat.S_ISVTX:
        return warn(f"{told}: whoever may write to it may change images", f"chmod o-w {folder}, or give each its own")
    return ok(f"{told}; QEMU's account reads what is in it")


def _space(folder: Path, what: str) -> Iterator[Finding]:
    free_mib = shutil.disk_usage(folder).free >> 20
    if free_mib < _LITTLE_MIB:
        yield warn(f"{folder} has {free_mib:,} MiB free {what}", "free some, or name a folder of another file system")
    else:
        yield ok(f"{folder} has {free_mib:,} MiB free {what}")


def _memory_backed(folder: Path) -> Iterator[Finding]:
    kind = _file_system(folder)
    if kind in {"tmpfs", "ramfs"}:
        mend = "name a folder on a disk: --scratch"
        yield warn(f"{folder} is a {kind}: what vms write is this node's memory", mend)


def _file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on: of the mounts of its device, the last.

    No mount point is looked at: one whose server is away would never answer. Source: proc(5), mountinfo.
    """
    status = folder.stat()
    device, kind = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}", ""
    for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        mount, _, what = line.partition(" - ")
        if mount.split()[2] == device:
            kind = what.split()[0]
    return kind


def _way_to(folder: Path, otherwise: str) -> str:
    """Say how to let QEMU's account reach a folder. Nobody's home is to be opened for it."""
    closed = _first_closed(folder)
    if closed is None or closed in {Path(entry.pw_dir) for entry in pwd.getpwall()}:
        return otherwise
    return f"let everybody pass through {closed} (chmod o+x), or {otherwise}"


def _first_closed(folder: Path) -> Path | None:
    """Return the outermost folder of a path that not everybody may pass through."""
    way = [*reversed(folder.absolute().parents), folder.absolute()]
    return next((each for each in way if each.exists() and not each.stat().st_mode & stat.S_IXOTH), None)

"""Whether a file of the desktop can be read, and what to do when it is root's."""

import fcntl
import os
import shlex
import stat
import struct
from pathlib import Path

from broker.desktop.failure import DesktopFailure

_PERM_BASE = 100
_PERM_WRITE_BIT = 1
AS_ROOT = '`sudo -E "$(command -v broker)" machine add …`'
"""How the command is run again as root: sudo looks for programs in folders of its own."""
_FLOCK = struct.Struct("hhqqi4x")
"""`struct flock`: l_type, l_whence, l_start, l_len, l_pid. Source: fcntl(2)."""


def check_readable(what: str, path: Path, option: str, *, is_live: bool = False) -> None:
    """Refuse a path that is no file or device, or that this account may not read.

    Args:
        what: What the file is, for the sentence: `disk vda`.
        path: The file.
        option: The option by which another file can be given: `--disk vda`.
        is_live: Whether a running machine's disk is frozen just now, so that a copy made by hand is not the same.

    Raises:
        DesktopFailure: with what to do, in one sentence.
    """
    try:
        if not _has_bytes(path):
            raise DesktopFailure(f"{what}: {path} is no file and no disk; give it with {option}=PATH")
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise DesktopFailure(f"{what}: there is no file {path}; give it with {option}=PATH") from None
    except PermissionError:
        raise DesktopFailure(_unreadable(what, path, option, is_live=is_live)) from None
    except OSError as error:
        raise DesktopFailure(
            f"{what}: {path} cannot be read: {error.strerror}; give a file with {option}=PATH"
        ) from error


def check_layer_readable(what: str, path: Path, top: Path) -> None:
    """Refuse a layer below an overlay that this account may not read; no other file can stand in for it.

    Raises:
        DesktopFailure: with what to do, in one sentence.
    """
    try:
        if not _has_bytes(path):
            raise DesktopFailure(f"{what}: {path}, which {top} is an overlay over, is no file and no disk")
        with path.open("rb"):
            pass
    except PermissionError:
        raise DesktopFailure(
            f"{what}: you may not read {path}, which {top} is an overlay over: run this command again with {AS_ROOT}"
        ) from None
    except OSError as error:
        raise DesktopFailure(
            f"{what}: {path}, which {top} is an overlay over, cannot be read ({error.strerror}): bring it "
            f"back, without it the disk is not whole"
        ) from error


def _has_bytes(path: Path) -> bool:
    """Tell whether it is a file or a disk: to open a pipe would wait for its other end."""
    mode = path.stat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _unreadable(what: str, path: Path, option: str, *, is_live: bool) -> str:
    if is_live or _is_device(path):
        return f"{what}: only root may read the disk {path}: run this command again with {AS_ROOT}"
    copy = f"~/{path.name}"
    quoted, quoted_copy = shlex.quote(str(path)), f"~/{shlex.quote(path.name)}"
    return (
        f"{what}: you may not read {path}: make a copy of your own with "
        f"`sudo install -m 600 -o $(id -u) {quoted} {quoted_copy}` and add {option}={copy}, "
        f"or run this command again with {AS_ROOT}"
    )


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except OSError:
        return False


def has_writer(path: Path) -> bool:
    """Tell whether a running QEMU may write to this image, by the lock it keeps on the byte that stands for it.

    Virtual machines of other makers keep no such lock. Source: QEMU's block/file-posix.c, `RAW_LOCK_PERM_BASE` and
    `BLK_PERM_WRITE`, which QEMUs of all versions since 2.10 agree on.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _is_locked(descriptor, _PERM_BASE + _PERM_WRITE_BIT)
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int, offset: int) -> bool:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    held_type = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))[0]
    return bool(held_type != fcntl.F_UNLCK)

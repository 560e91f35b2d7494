"""A short name for the folder of a libvirtd, whose sockets' paths are bounded, and the removal of dead ones.

The launcher removes its own at its end, its keeper when the launcher is killed. Where a batch system kills both at
once, a later launcher of the account does, when the name is older than any slot: that its folder is not to be seen does
not tell that it is gone, for a launcher may have a file system mounted that others do not see.

Source: unix(7), for the bound.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from launcher.hypervisor.errors import HypervisorError

# A Unix socket's path takes at most 107 bytes. The longest here is QEMU's monitor,
# /etc/libvirt/qemu/lib/domain-9999-NAME/monitor.sock, with at most 20 characters of the domain's name.
LONGEST_FOLDER_BYTES: Final = 39
SHORT_NAMES_FOLDER: Final = Path("/tmp")  # noqa: S108 - the name made there is random, and symlink(2) never follows another
_DEAD: Final = "vmb-" + 8 * "[0-9a-f]"
_KEPT_S: Final = 30 * 86_400.0
"""Longer than any slot lasts."""


@contextlib.contextmanager
def short_name(folder: Path) -> Iterator[Path]:
    """A name of the folder that leaves room for the sockets in it: its own, or a symbolic link's."""
    if len(os.fsencode(folder)) <= LONGEST_FOLDER_BYTES:
        yield folder
        return
    remove_dead_names()
    link = SHORT_NAMES_FOLDER / f"vmb-{secrets.token_hex(4)}"
    try:
        link.symlink_to(folder)
    except OSError as error:
        raise HypervisorError(
            f"{folder} is too long for libvirt's sockets, and {SHORT_NAMES_FOLDER} takes no shorter name for it: "
            f"{error.strerror}; name a scratch folder with a shorter path"
        ) from error
    try:
        yield link
    finally:
        link.unlink(missing_ok=True)


def remove_dead_names(names: Path = SHORT_NAMES_FOLDER) -> None:
    """Remove the links of this account whose folders are gone, as far as this process sees, and which are old."""
    old_s = time.time() - _KEPT_S
    for link in names.glob(_DEAD):
        with contextlib.suppress(OSError):
            if link.is_symlink() and _is_own_and_old(link.lstat(), old_s) and not link.exists():
                link.unlink()


def _is_own_and_old(found: os.stat_result, old_s: float) -> bool:
    return found.st_uid == os.geteuid() and found.st_mtime < old_s

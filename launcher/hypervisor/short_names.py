"""A short name for the folder of a libvirtd, whose sockets' paths are bounded, and the removal of dead ones.

The launcher removes its own at its end, its keeper when the launcher is killed. Where a batch system kills both at
once, the next launcher of the account does.

Source: unix(7), for the bound.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from launcher.hypervisor.errors import HypervisorError

# A Unix socket's path takes at most 107 bytes. The longest here is QEMU's monitor,
# /etc/libvirt/qemu/lib/domain-9999-NAME/monitor.sock, with at most 20 characters of the domain's name.
LONGEST_FOLDER_BYTES: Final = 39
SHORT_NAMES_FOLDER: Final = Path("/tmp")  # noqa: S108 - the name made there is random, and symlink(2) never follows another
_DEAD: Final = "vmb-" + 8 * "[0-9a-f]"


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
    """Remove the links of this account whose folders are gone."""
    for link in names.glob(_DEAD):
        with contextlib.suppress(OSError):
            if link.is_symlink() and link.lstat().st_uid == os.geteuid() and not link.exists():
                link.unlink()

"""The account that libvirtd and QEMU run as."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.getent import Found, find_account

# libvirt-qemu is Debian's account for QEMU, qemu Red Hat's; nobody exists everywhere.
USUAL_NAMES = ("libvirt-qemu", "qemu", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """Numeric ids of the account, the launcher's own unless the launcher is root."""

    uid: int
    gid: int
    groups: tuple[int, ...]

    @classmethod
    def choose(cls, name: str | None = None) -> Self:
        """Choose the account: the launcher's own, or an unprivileged one when the launcher is root.

        Args:
            name: The site's choice; by default the first that exists of `USUAL_NAMES`. Ignored for an ordinary user.

        Raises:
            HypervisorError: The account does not exist, or is root's.
        """
        if os.geteuid() != 0:
            _check_known(os.geteuid())
            return cls(os.geteuid(), os.getegid(), tuple(os.getgroups()))
        for candidate in (name,) if name else USUAL_NAMES:
            entry = _find(candidate)
            if entry is None:
                continue
            if entry.uid == 0:
                raise HypervisorError(f"QEMU must not run as root: name another account than {candidate}")
            _check_mapped(candidate, entry)
            return cls(entry.uid, entry.gid, entry.groups)
        raise HypervisorError(
            f"no account to run QEMU as: {name or ', '.join(USUAL_NAMES)} does not exist on this node"
        )

    @property
    def is_own(self) -> bool:
        """Whether this is the launcher's own account."""
        return self.uid == os.geteuid()

    @property
    def dac_label(self) -> str:
        """Return what libvirt's label calls it."""
        return f"+{self.uid}:+{self.gid}"

    def take(self, path: Path) -> None:
        """Hand a file or folder, not what is in it, to the account; does nothing if it is the launcher's own."""
        if not self.is_own:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def _find(name: str) -> Found | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        found = find_account(name)
        # It takes a number for a uid.
        return found if found and found.name == name else None
    return Found(name, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid)))


def _check_mapped(name: str, entry: Found) -> None:
    """Refuse what root of a user namespace, as in a container without a root of its own, cannot become.

    Source: user_namespaces(7), "User and group ID mappings".
    """
    if _is_mapped("uid_map", entry.uid) and all(_is_mapped("gid_map", gid) for gid in (entry.gid, *entry.groups)):
        return
    raise HypervisorError(
        f"this launcher is root of a user namespace without {name} (uid {entry.uid}), which would run QEMU: start it "
        "as an ordinary user, without --fakeroot or `unshare --map-root-user`, or map the node's accounts into the "
        "namespace"
    )


def _is_mapped(table: str, number: int) -> bool:
    lines = Path("/proc/self", table).read_text(encoding="ascii").splitlines()
    ranges = [(int(first), int(length)) for first, _, length in map(str.split, lines)]
    return any(first <= number < first + length for first, length in ranges)


def _check_known(uid: int) -> None:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        if find_account(str(uid)) is None:
            raise HypervisorError(
                f"uid {uid} has no entry in this node's password database, and libvirt works for no account without one"
            ) from None

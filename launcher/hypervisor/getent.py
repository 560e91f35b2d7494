"""Accounts that only the node's own C library finds.

The one in a bundle reads /etc/passwd, but may be too old or too new to load what a site's directory service (SSSD,
LDAP) brings for the node's. The node's `getent` and `id` ask that. Source: getent(1), id(1), nsswitch.conf(5).
"""

import subprocess
from typing import Final, NamedTuple

_LIMIT_S: Final = 10.0
_FIELDS: Final = 7


class Found(NamedTuple):
    """An entry of the node's password database, with all groups of the account."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def find_account(key: str) -> Found | None:
    """Ask the node for the account of a name or of a uid; blocks. None, too, where the node has no `getent`."""
    fields = _said("getent", "passwd", key).split(":")
    if len(fields) != _FIELDS or not (fields[2].isdecimal() and fields[3].isdecimal()):
        return None
    groups = tuple(int(word) for word in _said("id", "-G", fields[0]).split() if word.isdecimal())
    return Found(fields[0], int(fields[2]), int(fields[3]), groups or (int(fields[3]),))


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""

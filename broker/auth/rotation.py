"""Rotation: a new key beside the old one, which still verifies until it is dropped.

A new signing key is published before it signs, so that whoever keeps the published keys for a while knows it by then.
"""

from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from joserfc.jwk import ECKey, KeySet

from broker.auth.key_files import (
    MAC_FILE,
    SIGNING_FILE,
    BadKeys,
    locked,
    mac_text,
    read_mac,
    read_signing,
    signing_text,
)
from broker.auth.keys import current_of, id_of, since_of, with_new_mac
from broker.client.private_files import write_private

PUBLISHED_BEFORE = timedelta(hours=1)
"""A new signing key signs so long after it was published; whoever keeps published keys is told to do so for less."""
MOST_KEYS = 16
"""Of each kind: rotating is refused until an old one is dropped."""


class KeyView(NamedTuple):
    """What an operator is shown of a key. `signs_from_s`: since when, or from when on, it makes anything."""

    kind: str
    key_id: str
    is_current: bool
    signs_from_s: int


def rotate(folder: Path, *, at_once: bool, now_s: int) -> None:
    """Add a key of each kind. The new one makes MACs at once, and signs when it was published long enough.

    Raises:
        BadKeys: the folder cannot be used, or there are too many keys.
    """
    with locked(folder):
        current, macs = read_mac(folder)
        signing = read_signing(folder)
        if max(len(macs), len(signing.keys.keys)) >= MOST_KEYS:
            raise BadKeys(
                f"there are {MOST_KEYS} keys of a kind: drop an old one first (`broker key list`, `key drop`)"
            )
        current, macs = with_new_mac(macs)
        wait_s = 0 if at_once else int(PUBLISHED_BEFORE.total_seconds())
        new = ECKey.generate_key("P-256", auto_kid=True)
        keys = KeySet([*signing.keys.keys, new])
        write_private(folder / MAC_FILE, mac_text(current, macs))
        write_private(folder / SIGNING_FILE, signing_text(keys, {**signing.signs_from_s, id_of(new): now_s + wait_s}))


def drop(folder: Path, key_id: str, *, now_s: int) -> None:
    """Remove a key that makes nothing any more: whatever it made is refused from then on.

    Raises:
        BadKeys: there is no such key, or it is the current one of its kind.
    """
    with locked(folder):
        current, macs = read_mac(folder)
        signing = read_signing(folder)
        left = [key for key in signing.keys.keys if id_of(key) != key_id]
        if key_id in (current, id_of(current_of(signing, now_s))):
            raise BadKeys(f"{key_id} is in use: `broker key rotate` first, with --now where the key is known to others")
        if key_id in macs:
            write_private(
                folder / MAC_FILE, mac_text(current, {name: key for name, key in macs.items() if name != key_id})
            )
        elif len(left) < len(signing.keys.keys):
            since = {name: from_s for name, from_s in signing.signs_from_s.items() if name != key_id}
            write_private(folder / SIGNING_FILE, signing_text(KeySet(left), since))
        else:
            raise BadKeys(f"there is no key {key_id}: `broker key list` shows those there are")


def list_keys(folder: Path, *, now_s: int) -> list[KeyView]:
    """Return what an operator may see of the keys, the oldest of each kind first.

    Raises:
        BadKeys: the folder cannot be used.
    """
    current, macs = read_mac(folder)
    signing = read_signing(folder)
    signs = id_of(current_of(signing, now_s))
    return [
        *(KeyView("mac", key_id, key_id == current, 0) for key_id in macs),
        *(KeyView("signing", id_of(key), id_of(key) == signs, since_of(signing, key)) for key in signing.keys.keys),
    ]

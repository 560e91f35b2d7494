"""Rotation: a new key beside the old one, which still verifies until it is dropped.

A new signing key is published before it signs, so that whoever keeps the published keys for a while knows it by then.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar

from joserfc.jwk import ECKey, KeySet

from broker.auth.key_files import (
    MAC_FILE,
    SEALING_FILE,
    SIGNING_FILE,
    BadKeys,
    locked,
    named_text,
    read_mac,
    read_sealing,
    read_signing,
    signing_text,
)
from broker.auth.keys import current_of, id_of, since_of, with_new_mac
from broker.auth.sealing import with_new_key
from broker.client.private_files import write_private

T = TypeVar("T")

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
    """Add a key of each kind. The new one makes MACs and seals at once, and signs when it was published long enough.

    Raises:
        BadKeys: the folder cannot be used, or there are too many keys.
    """
    with locked(folder):
        (_, macs), signing, sealing = read_mac(folder), read_signing(folder), read_sealing(folder)
        if max(len(macs), len(signing.keys.keys), len(sealing.by_id)) >= MOST_KEYS:
            raise BadKeys(
                f"there are {MOST_KEYS} keys of a kind: drop an old one first (`broker key list`, `key drop`)"
            )
        wait_s = 0 if at_once else int(PUBLISHED_BEFORE.total_seconds())
        new = ECKey.generate_key("P-256", auto_kid=True)
        keys = KeySet([*signing.keys.keys, new])
        write_private(folder / MAC_FILE, named_text(*with_new_mac(macs)))
        write_private(folder / SIGNING_FILE, signing_text(keys, {**signing.signs_from_s, id_of(new): now_s + wait_s}))
        new_sealing = with_new_key(sealing.by_id)
        write_private(folder / SEALING_FILE, named_text(new_sealing.current, new_sealing.by_id))


def drop(folder: Path, key_id: str, *, now_s: int) -> None:
    """Remove a key that makes nothing any more: whatever it made is refused, and what it sealed is lost.

    Raises:
        BadKeys: there is no such key, or it is the current one of its kind.
    """
    with locked(folder):
        (current, macs), signing, sealing = read_mac(folder), read_signing(folder), read_sealing(folder)
        if key_id in (current, id_of(current_of(signing, now_s)), sealing.current):
            raise BadKeys(f"{key_id} is in use: `broker key rotate` first, with --now where the key is known to others")
        if key_id in macs:
            write_private(folder / MAC_FILE, named_text(current, _without(macs, key_id)))
        elif key_id in sealing.by_id:
            write_private(folder / SEALING_FILE, named_text(sealing.current, _without(sealing.by_id, key_id)))
        elif any(id_of(key) == key_id for key in signing.keys.keys):
            kept = KeySet([key for key in signing.keys.keys if id_of(key) != key_id])
            write_private(folder / SIGNING_FILE, signing_text(kept, _without(signing.signs_from_s, key_id)))
        else:
            raise BadKeys(f"there is no key {key_id}: `broker key list` shows those there are")


def list_keys(folder: Path, *, now_s: int) -> list[KeyView]:
    """Return what an operator may see of the keys, the oldest of each kind first.

    Raises:
        BadKeys: the folder cannot be used.
    """
    (current, macs), signing, sealing = read_mac(folder), read_signing(folder), read_sealing(folder)
    signs = id_of(current_of(signing, now_s))
    return [
        *(KeyView("mac", key_id, key_id == current, 0) for key_id in macs),
        *(KeyView("signing", id_of(key), id_of(key) == signs, since_of(signing, key)) for key in signing.keys.keys),
        *(KeyView("sealing", key_id, key_id == sealing.current, 0) for key_id in sealing.by_id),
    ]


def _without(by_id: Mapping[str, T], key_id: str) -> dict[str, T]:
    return {name: value for name, value in by_id.items() if name != key_id}

"""The files of the broker's keys: a folder, 0700, each file in it 0600 and replaced as a whole."""

import base64
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import NamedTuple

from joserfc.jwk import ECKey, KeySet

from broker.auth.sealing import SealingKeys

MAC_FILE = "mac.json"
SIGNING_FILE = "signing.json"
ISSUER_FILE = "issuer"
SEALING_FILE = "secrets.json"
_LOCK_FILE = "lock"


class BadKeys(Exception):
    """The folder of keys cannot be used; its text is a sentence for the operator."""


class SigningKeys(NamedTuple):
    """The signing keys, and from when on each signs, in seconds of the epoch; 0 when that was never said."""

    keys: KeySet
    signs_from_s: dict[str, int]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others from changing the keys meanwhile: a broker that starts, and an operator who rotates."""
    descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        flock(descriptor, LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if mode & 0o077:
            raise BadKeys(f"{path} can be read by others: chmod 600 it, and replace the key if others had access")
        return path.read_text()
    except FileNotFoundError as error:
        raise BadKeys(f"there are no keys of a broker in {path.parent}: name the data folder of one") from error


def read_mac(folder: Path) -> tuple[str, dict[str, bytes]]:
    return _read_named(folder, MAC_FILE)


def read_signing(folder: Path) -> SigningKeys:
    try:
        stored = json.loads(_read(folder / SIGNING_FILE))
        keys = KeySet.import_key_set(stored)
        since = {str(name): int(from_s) for name, from_s in stored.get("signs_from_s", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(folder) from error
    if not keys.keys or not all(isinstance(key, ECKey) and key.is_private for key in keys.keys):
        raise _not_ours(folder)
    return SigningKeys(keys, since)


def read_sealing(folder: Path) -> SealingKeys:
    try:
        return SealingKeys(*_read_named(folder, SEALING_FILE))
    except ValueError as error:
        raise _unreadable(folder) from error


def _read_named(folder: Path, file: str) -> tuple[str, dict[str, bytes]]:
    """Return the id of the key that makes, and all keys by their ids."""
    try:
        stored = json.loads(_read(folder / file))
        current, by_id = stored["current"], {name: base64.b64decode(key) for name, key in stored["keys"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(folder) from error
    if current not in by_id:
        raise _not_ours(folder)
    return current, by_id


def read_issuers(folder: Path) -> tuple[str, ...]:
    issuers = tuple(_read(folder / ISSUER_FILE).split())
    if not issuers:
        raise _not_ours(folder)
    return issuers


def _unreadable(folder: Path) -> BadKeys:
    return BadKeys(f"the keys in {folder} cannot be read: restore them from a backup")


def _not_ours(folder: Path) -> BadKeys:
    return BadKeys(f"the keys in {folder} are not the broker's: restore them from a backup")


def named_text(current: str, by_id: Mapping[str, bytes]) -> str:
    """Return the text of a file of keys for MACs or for sealing."""
    keys = {name: base64.b64encode(key).decode() for name, key in by_id.items()}
    return json.dumps({"current": current, "keys": keys})


def signing_text(keys: KeySet, signs_from_s: dict[str, int]) -> str:
    return json.dumps({**keys.as_dict(private=True), "signs_from_s": signs_from_s})

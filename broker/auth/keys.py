"""The broker's keys: one for HMACs (tickets, leases, addresses), one for signing tokens (ES256), each with its id.

A key is named by its id in everything made with it, so that a new key can be added and an old one still verifies. The
folder is 0700, each file 0600 and written once; whoever reads them is the broker.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from joserfc.jwk import ECKey, KeySet

_MAC_FILE = "mac.json"
_SIGNING_FILE = "signing.json"
_ISSUER_FILE = "issuer"
_MAC_BYTES = 32
_ID_BYTES = 4


class BadKeys(Exception):
    """The folder of keys cannot be used; its text is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class MacKeys:
    """HMAC-SHA256 keys by id; `current` makes, all verify."""

    current: str
    by_id: dict[str, bytes]

    def mac(self, key_id: str, *parts: str) -> str | None:
        """Return the MAC over the parts as base64url without padding, or None when there is no such key.

        Each part is preceded by its length: no two lists of parts give the same bytes.
        """
        key = self.by_id.get(key_id)
        if key is None:
            return None
        message = b"".join(len(part).to_bytes(4, "big") + part for part in map(_bytes, parts))
        return base64.urlsafe_b64encode(hmac.digest(key, message, hashlib.sha256)).rstrip(b"=").decode()

    def make(self, *parts: str) -> str:
        """Return the MAC made with the current key."""
        mac = self.mac(self.current, *parts)
        assert mac is not None
        return mac

    def verify(self, key_id: str, mac: str, *parts: str) -> bool:
        """Compare in constant time."""
        expected = self.mac(key_id, *parts)
        return expected is not None and hmac.compare_digest(_bytes(expected), _bytes(mac))


@dataclass(frozen=True, slots=True)
class BrokerKeys:
    """All keys of one broker, and `issuer`: the name under which it signs, the same for the life of the folder."""

    mac: MacKeys
    signing: ECKey
    verifying: KeySet
    issuer: str


def _bytes(text: str) -> bytes:
    # Halves of pairs, too: what is no text has another MAC, and is no fault of the broker's.
    return text.encode("utf-8", "surrogatepass")


def load_keys(folder: Path) -> BrokerKeys:
    """Read the keys of a folder; what is missing is made first.

    Raises:
        BadKeys: a file is readable by others, or is none of ours.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    mac_text = _read_or_make(folder / _MAC_FILE, _new_mac_keys)
    signing_text = _read_or_make(folder / _SIGNING_FILE, _new_signing_keys)
    issuer = _read_or_make(folder / _ISSUER_FILE, _new_issuer).strip()
    try:
        stored = json.loads(mac_text)
        mac = MacKeys(stored["current"], {key: base64.b64decode(value) for key, value in stored["keys"].items()})
        key_set = KeySet.import_key_set(json.loads(signing_text))
        signing = key_set.keys[0]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BadKeys(f"the keys in {folder} cannot be read: restore them from a backup") from error
    if not isinstance(signing, ECKey) or not signing.is_private or mac.current not in mac.by_id:
        raise BadKeys(f"the keys in {folder} are not the broker's: restore them from a backup")
    return BrokerKeys(mac, signing, key_set, issuer)


def write_private(path: Path, text: str) -> None:
    """Write a 0600 file, whole or not at all: beside it first, then renamed over it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _read_or_make(path: Path, make: Callable[[], str]) -> str:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        write_private(path, make())
        return path.read_text()
    if mode & 0o077:
        raise BadKeys(f"{path} can be read by others: chmod 600 it, and replace the key if others had access")
    return path.read_text()


def _new_mac_keys() -> str:
    key_id = secrets.token_hex(_ID_BYTES)
    key = base64.b64encode(secrets.token_bytes(_MAC_BYTES)).decode()
    return json.dumps({"current": key_id, "keys": {key_id: key}})


def _new_signing_keys() -> str:
    key = ECKey.generate_key("P-256", auto_kid=True)
    return json.dumps(KeySet([key]).as_dict(private=True))


def _new_issuer() -> str:
    return f"urn:uuid:{uuid.uuid4()}\n"

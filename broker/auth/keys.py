"""The broker's keys, by their ids: for HMACs (tickets, leases, addresses, logins), for signing (ES256), for sealing.

A key is named by its id in everything made with it, so that a new key can be added and an old one still verifies. The
folder is 0700, each file 0600 and replaced as a whole; whoever reads them is the broker. Each process reads the files
again when they changed: now and then, and at once when it meets an id that it does not know.
"""

import binascii
import hmac
import secrets
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey, KeySet

from broker.auth.framing import as_bytes, framed
from broker.auth.key_files import (
    ISSUER_FILE,
    MAC_FILE,
    SEALING_FILE,
    SIGNING_FILE,
    BadKeys,
    SigningKeys,
    locked,
    named_text,
    read_issuers,
    read_mac,
    read_sealing,
    read_signing,
    signing_text,
)
from broker.auth.sealing import with_new_key
from broker.client.private_files import write_private

MOST_ISSUERS = 64
_MAC_BYTES = 32
_ID_BYTES = 4
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class MacKeys:
    """HMAC-SHA256 keys by id; `current` makes, all verify. `look_again` may bring one that is not known yet."""

    def __init__(self, current: str, by_id: dict[str, bytes], look_again: Callable[[], bool] = lambda: False) -> None:
        self.current = current
        self.by_id = by_id
        self._look_again = look_again

    def mac(self, key_id: str, *parts: str) -> str | None:
        """Return the MAC over the parts as base64url without padding, or None when there is no such key."""
        if key_id not in self.by_id:
            self._look_again()
        key = self.by_id.get(key_id)
        if key is None:
            return None
        # One or several are made for every call of a guest, so without the steps that the module `base64` adds.
        text = binascii.b2a_base64(hmac.digest(key, framed(parts), "sha256"), newline=False)
        return text.translate(_URL_SAFE, b"=").decode()

    def make(self, *parts: str) -> str:
        """Return the MAC made with the current key."""
        mac = self.mac(self.current, *parts)
        assert mac is not None
        return mac

    def verify(self, key_id: str, mac: str, *parts: str) -> bool:
        """Compare in constant time."""
        expected = self.mac(key_id, *parts)
        return expected is not None and hmac.compare_digest(as_bytes(expected), as_bytes(mac))


class BrokerKeys:
    """All keys of one broker, as its folder has them; `issuers` are the names under which it signed."""

    def __init__(self, folder: Path, now_s: Callable[[], int] = lambda: int(time.time())) -> None:
        """Read the keys.

        Raises:
            BadKeys: a file is readable by others, or is none of ours.
        """
        self._folder = folder
        self._now_s = now_s
        self._seen = self._state()
        self.fault: str | None = None
        """Why the files, changed since, could not be read again."""
        current, by_id = read_mac(folder)
        self.mac = MacKeys(current, by_id, self.look_again)
        self._signing = read_signing(folder)
        self.issuers = read_issuers(folder)
        self.sealing = read_sealing(folder)

    @property
    def issuer(self) -> str:
        """The name that is the same for the life of the folder."""
        return self.issuers[0]

    @property
    def signing(self) -> ECKey:
        """The key that signs now."""
        return current_of(self._signing, self._now_s())

    @property
    def verifying(self) -> KeySet:
        return self._signing.keys

    @property
    def published(self) -> dict[str, Any]:
        """The public halves of the signing keys. Source: RFC 7517, section 5."""
        return {"keys": [dict(public_of(key)) for key in self._signing.keys.keys]}

    def unseal(self, sealed: str, *about: str) -> bytes:
        """Return a sealed value; by a key that another process had first, too.

        Raises:
            CannotUnseal: as `SealingKeys.unseal`.
        """
        if sealed.partition(".")[0] not in self.sealing.by_id:
            self.look_again()
        return self.sealing.unseal(sealed, *about)

    def look_again(self) -> bool:
        """Read the files again if they changed; tell whether they had. Unreadable ones leave the old keys in use."""
        state = self._state()
        if state == self._seen:
            return False
        self._seen = state
        try:
            mac, signing = read_mac(self._folder), read_signing(self._folder)
            issuers, sealing = read_issuers(self._folder), read_sealing(self._folder)
        except (BadKeys, OSError) as error:
            self.fault = str(error)
            return False
        self.mac.current, self.mac.by_id = mac
        self._signing, self.issuers, self.sealing = signing, issuers, sealing
        self.fault = None
        return True

    def _state(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_state(self._folder / name) for name in _MADE_BY)


def load_keys(folder: Path) -> BrokerKeys:
    """Read the keys of a folder; what is missing is made first.

    Raises:
        BadKeys: a file is readable by others, or is none of ours.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(folder):
        for name, make in _MADE_BY.items():
            if not (folder / name).exists():
                write_private(folder / name, make())
    return BrokerKeys(folder)


def remember_issuer(folder: Path, url: str) -> None:
    """Note another name under which the broker signs: what it signed under it stays good when it gets a new one.

    Raises:
        BadKeys: it had too many.
    """
    with locked(folder):
        known = read_issuers(folder)
        if url in known:
            return
        if len(known) == MOST_ISSUERS:
            raise BadKeys(f"the broker had {MOST_ISSUERS} addresses: take old ones out of {folder / ISSUER_FILE}")
        write_private(folder / ISSUER_FILE, "\n".join((*known, url)) + "\n")


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def current_of(signing: SigningKeys, now_s: int) -> ECKey:
    """Return the key whose time came last; before all of their times, the one that is due first."""
    due = [key for key in signing.keys.keys if since_of(signing, key) <= now_s]
    if due:
        key = max(due, key=lambda key: since_of(signing, key))
    else:
        key = min(signing.keys.keys, key=lambda key: since_of(signing, key))
    assert isinstance(key, ECKey), "no other was read"
    return key


def since_of(signing: SigningKeys, key: Any) -> int:
    return signing.signs_from_s.get(id_of(key), 0)


def id_of(key: Any) -> str:
    return str(key.kid)


def public_of(key: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), "use": "sig", "alg": "ES256"}


def with_new_mac(macs: dict[str, bytes]) -> tuple[str, dict[str, bytes]]:
    key_id = secrets.token_hex(_ID_BYTES)
    return key_id, {**macs, key_id: secrets.token_bytes(_MAC_BYTES)}


def _new_mac_keys() -> str:
    return named_text(*with_new_mac({}))


def _new_sealing_keys() -> str:
    keys = with_new_key({})
    return named_text(keys.current, keys.by_id)


def _new_signing_keys() -> str:
    return signing_text(KeySet([ECKey.generate_key("P-256", auto_kid=True)]), {})


def _new_issuer() -> str:
    return f"urn:uuid:{uuid.uuid4()}\n"


_MADE_BY: dict[str, Callable[[], str]] = {
    MAC_FILE: _new_mac_keys,
    SIGNING_FILE: _new_signing_keys,
    ISSUER_FILE: _new_issuer,
    SEALING_FILE: _new_sealing_keys,
}
"""Every file of the folder, and what makes it where there is none."""

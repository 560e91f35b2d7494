"""Secrets sealed for the store: AES-256-GCM by a key that the store never sees.

A sealed text is `KEY_ID.` and base64 of nonce and ciphertext. What the secret is about (user, name, version) is bound
to it: a sealed text that somebody moved to another user's name in the store opens nothing.

Source: NIST SP 800-38D; with random nonces of 96 bits a key is good for 2^32 secrets.
"""

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.auth.framing import framed

_KEY_BITS = 256
_NONCE_BYTES = 12
_ID_BYTES = 4


class CannotUnseal(Exception):
    """A sealed text that none of the keys opens; its text is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class SealingKeys:
    """AES-256-GCM keys by id; `current` seals, all unseal."""

    current: str
    by_id: dict[str, bytes]

    def __post_init__(self) -> None:
        if any(len(key) * 8 != _KEY_BITS for key in self.by_id.values()):
            raise ValueError(f"one is no key of {_KEY_BITS} bits")

    def seal(self, value: bytes, *about: str) -> str:
        """Return the value sealed by the current key, bound to what it is about."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self.by_id[self.current]).encrypt(nonce, value, framed(about))
        return f"{self.current}.{base64.b64encode(nonce + sealed).decode()}"

    def unseal(self, sealed: str, *about: str) -> bytes:
        """Return the value.

        Raises:
            CannotUnseal: another key made it, it was changed, or it is about something else.
        """
        key_id, _, text = sealed.partition(".")
        key = self.by_id.get(key_id)
        if key is None:
            raise CannotUnseal(f"the key {key_id[:16]} is not among the broker's keys: restore secrets.json")
        try:
            raw = base64.b64decode(text, validate=True)
            return AESGCM(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], framed(about))
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise CannotUnseal("the sealed text was changed in the store, or is not this secret's") from error


def with_new_key(by_id: Mapping[str, bytes]) -> SealingKeys:
    """Return the keys and a new one, which seals from now on."""
    key_id = secrets.token_hex(_ID_BYTES)
    return SealingKeys(key_id, {**by_id, key_id: AESGCM.generate_key(_KEY_BITS)})

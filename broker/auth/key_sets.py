"""An outside issuer's published keys, as far as they are of use: public ones for signatures by a known algorithm.

What of a key set is not understood, or for another use, is left out, as RFC 7517 section 5 has it. What could make
verifying slow, or weak, is left out too.
"""

import base64
from typing import Any, Final

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, KeySet, RSAKey

from broker.auth.issuers import KEY_TYPES

MAX_KEYS: Final = 64
MAX_ID_CHARACTERS: Final = 256
_CURVE: Final = "P-256"
_MEMBERS: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y")}
"""What of a key is read: a private part that somebody published by mistake is not even imported."""
_MODULUS_BITS: Final = range(2_048, 8_193)
_EXPONENT_BITS: Final = range(2, 33)


class BadKeySet(Exception):
    """What was published cannot be used; its text says why, and nothing of what it holds."""


class _Published(msgspec.Struct):
    keys: list[Any]


def read_keys(content: bytes) -> KeySet:
    """Read a JWK set.

    Raises:
        BadKeySet: it is none, has too many keys, or none that can be used.
    """
    try:
        published = msgspec.json.decode(content, type=_Published).keys
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadKeySet("they are no JWK set") from error
    if len(published) > MAX_KEYS:
        raise BadKeySet(f"they are more than {MAX_KEYS}")
    usable = [key for data in published if isinstance(data, dict) and (key := _usable(data)) is not None]
    if not usable:
        raise BadKeySet(f"none of them is for signatures by {' or '.join(KEY_TYPES)}")
    return KeySet(usable)


def _usable(data: dict[str, Any]) -> Key | None:
    kty, alg, kid = data.get("kty"), data.get("alg"), data.get("kid")
    members = _MEMBERS.get(kty) if isinstance(kty, str) else None
    if members is None or (alg is not None and KEY_TYPES.get(str(alg)) != kty):
        return None
    operations = data.get("key_ops") or ["verify"]
    if data.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if isinstance(kid, str) and len(kid) > MAX_ID_CHARACTERS:
        return None
    kept = {name: data.get(name) for name in ("kty", *members)} | {
        name: value for name, value in (("kid", kid), ("alg", alg)) if value is not None
    }
    return _imported(kept) if all(isinstance(value, str) for value in kept.values()) else None


def _imported(data: dict[str, Any]) -> Key | None:
    try:
        if data["kty"] == "EC":
            return ECKey.import_key(data) if data["crv"] == _CURVE else None
        is_sound = _bits(data["n"]) in _MODULUS_BITS and _bits(data["e"]) in _EXPONENT_BITS
        return RSAKey.import_key(data) if is_sound else None
    except (JoseError, ValueError):
        return None


def _bits(number: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(number + "=" * (-len(number) % 4))).bit_length()

"""Logins: what a one-time code or an institution's word buys, and what renews a person's tokens.

A code is a text that an operator hands over; the store keeps its hash. A login's secret, `vr1.LOGIN.KEY.MAC`, is
derived from the login's id, as tickets are: a repeated request is answered the same one again, and whoever reads the
store cannot log in. Whether a login is still there is the store's to say.
"""

import hashlib
import re
import secrets
import uuid

from broker.auth.keys import MacKeys
from broker.domain.errors import Rejected
from broker.wire.problems import ProblemCode

_LOGIN = "vr1"
_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Without those that are read for another: 0 and O, 1 and I and L, U and V."""
_GROUPS, _GROUP_CHARS = 5, 5
"""25 characters of 30 are 122 bits: nobody guesses one in the life of the universe."""
_NOT_OF_A_CODE = re.compile(r"[^0-9A-Z]")
_MIN_LOGIN_KEY, _MAX_LOGIN_KEY = 40, 256


def make_code() -> str:
    """Return a new one-time code, as it is handed over."""
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_CHARS)) for _ in range(_GROUPS))
    return "-".join(groups)


def hash_code(code: str) -> str:
    """Return the hash under which a code is known, however it was typed.

    Raises:
        Rejected: `bad_request`: it has not the shape of one.
    """
    letters = _NOT_OF_A_CODE.sub("", code.upper()) if len(code) <= 2 * _GROUPS * _GROUP_CHARS else ""
    if len(letters) != _GROUPS * _GROUP_CHARS:
        raise Rejected(
            ProblemCode.BAD_REQUEST,
            f"this is no one-time code: it has {_GROUPS} groups of {_GROUP_CHARS} letters and digits, "
            "as `broker user add` printed it",
        )
    return hashlib.sha256(letters.encode()).hexdigest()


def hash_word(id_token: str) -> str:
    """Return the hash under which an issuer's word is spent: of what was signed, since a signature may have a twin."""
    return hashlib.sha256(f"id_token {id_token.rpartition('.')[0]}".encode()).hexdigest()


def hash_login_key(login_key: str) -> str:
    """Return the hash by which a repeated login is known.

    Raises:
        Rejected: `bad_request`: it is too short to be secret.
    """
    if not _MIN_LOGIN_KEY <= len(login_key) <= _MAX_LOGIN_KEY or not login_key.isascii():
        raise Rejected(ProblemCode.BAD_REQUEST, "login_key is not good: send 32 random bytes in base64")
    return hashlib.sha256(login_key.encode()).hexdigest()


def make_login(keys: MacKeys, login_id: str) -> str:
    """Derive the secret of a login."""
    return ".".join((_LOGIN, login_id, keys.current, keys.make("login", login_id)))


def is_login(text: str) -> bool:
    """Tell whether a bearer's text is meant as a login's secret, and not as a token."""
    return text.startswith(f"{_LOGIN}.")


def verify_login(keys: MacKeys, text: str) -> str:
    """Return the id of a login whose secret the broker made; whether it still is one is the store's to say.

    Raises:
        Rejected: `unauthenticated`.
    """
    parts = text.split(".")
    if len(parts) == 4 and parts[0] == _LOGIN and _is_uuid(parts[1]) and parts[3].isascii():
        _, login_id, key_id, mac = parts
        if keys.verify(key_id, mac, "login", login_id):
            return login_id
    raise login_over()


def login_over() -> Rejected:
    """Return what a login is answered with that is none, or none any more."""
    return Rejected(
        ProblemCode.UNAUTHENTICATED,
        "the login is over, was revoked, or is none of this broker's: log in again (`broker login`)",
    )


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False

"""Signatures of callbacks, by which a researcher's server knows that the broker sent them, and when.

HMAC-SHA256 over `webhook-id`, `webhook-timestamp` and the body, joined by dots. With several keys there are as many
signatures: while a key is replaced, a server that knows either of them accepts.

Source: Standard Webhooks 1.0, "Signature scheme" and "Webhook Headers".
"""

import base64
import binascii
import hmac
from collections.abc import Sequence

PREFIX = b"whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64
_HOW = "make one by: printf 'whsec_%s' \"$(openssl rand -base64 32)\""


class BadKey(Exception):
    """No key to sign with; the text is a sentence for its owner and quotes nothing of it."""


def read_key(value: bytes) -> bytes:
    """Return the bytes of a key as it is written, `whsec_` and base64; white space around it does not count.

    Raises:
        BadKey: it is none.
    """
    text = value.strip()
    if not text.startswith(PREFIX):
        raise BadKey(f"a webhook key begins with {PREFIX.decode()}: {_HOW}")
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise BadKey(f"what follows {PREFIX.decode()} in a webhook key is base64: {_HOW}") from error
    if not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise BadKey(f"a webhook key has {LEAST_BYTES} to {MOST_BYTES} bytes, this one {len(key)}: {_HOW}")
    return key


def signature_of(keys: Sequence[bytes], webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: `v1,BASE64` of each key, in their order, with blanks between."""
    signed = f"{webhook_id}.{timestamp_s}.".encode() + body
    digests = (hmac.digest(key, signed, "sha256") for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)

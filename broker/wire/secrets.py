"""Secrets that a researcher wants in a vm: an X.509 proxy, a bearer token, a licence key.

A value goes one way: from the researcher to the broker, and from there with a claim to a guest. No answer to a person
holds one.
"""

import re
from enum import StrEnum

from broker.wire.kinds import FromPerson, Message


class SecretKind(StrEnum):
    """How a program is told where the secret lies."""

    FILE = "file"
    """By `VMBROKER_SECRET_NAME` alone."""
    X509_PROXY = "x509_proxy"
    """By `X509_USER_PROXY`, too."""
    BEARER_TOKEN = "bearer_token"  # noqa: S105 # the name of a kind
    """By `BEARER_TOKEN_FILE`, too."""
    WEBHOOK_KEY = "webhook_key"
    """Not at all: a key by which the broker signs callbacks. No vm is given one."""
    AWS_CREDENTIALS = "aws_credentials"
    """Not at all: keys by which the broker signs addresses of a stream's `s3`. No vm is given one."""


VARIABLES = {SecretKind.X509_PROXY: "X509_USER_PROXY", SecretKind.BEARER_TOKEN: "BEARER_TOKEN_FILE"}
"""By what else than a variable of its own a secret of a kind is announced."""
KEPT = {SecretKind.AWS_CREDENTIALS: "s3", SecretKind.WEBHOOK_KEY: "callback"}
"""Kinds that the broker signs with and no vm is given; and the field of a stream's spec that names them."""
_NOT_IN_VARIABLES = re.compile(r"[^A-Z0-9]")


def variable_of(name: str) -> str:
    """Return the environment variable in which a program finds the path of a secret."""
    return f"VMBROKER_SECRET_{_NOT_IN_VARIABLES.sub('_', name.upper())}"


class PutSecret(FromPerson, frozen=True, kw_only=True):
    """`PUT /v1/secrets/USER/NAME`. `value` is written in base64."""

    value: bytes
    kind: SecretKind = SecretKind.FILE


class SecretView(Message, frozen=True, kw_only=True):
    """What is told of a secret: everything but its value."""

    secret: str
    kind: SecretKind
    size_bytes: int
    version: int
    """Grows with each value that the user puts, of whatever secret."""
    created_at: str
    updated_at: str


class GivenSecret(Message, frozen=True, kw_only=True):
    """A secret as it is handed to a guest, and to nobody else. `kind` is how it is to be announced."""

    name: str
    kind: SecretKind
    version: int
    value: bytes

"""Where an issuer says that its keys and endpoints are, and the keys themselves; once, within bounds.

Source: OpenID Connect Discovery 1.0, section 4; RFC 8414, section 3; RFC 8628, section 4.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import msgspec
from joserfc.jwk import KeySet

from broker.auth.key_sets import BadKeySet, read_keys
from broker.client.errors import Unreachable
from broker.client.outgoing import Bounds, OutgoingClient

BOUNDS: Final = Bounds(size_bytes=262_144, total_s=5.0)
"""For each of the at most four requests."""


class NotDiscovered(Exception):
    """The issuer's description or keys were not got, or are not to be used; its text is for the operator."""


class Description(msgspec.Struct, frozen=True):
    """What an issuer says of itself, as far as it is used here."""

    issuer: str
    jwks_uri: str
    token_endpoint: str | None = None
    device_authorization_endpoint: str | None = None


async def describe(client: OutgoingClient, issuer: str) -> Description:
    """Get an issuer's description of itself.

    Raises:
        NotDiscovered: there is none, it cannot be read, or it is of another issuer.
    """
    for address in _addresses(issuer):
        content = await _got(client, address)
        if content is not None:
            return _checked(content, address, issuer)
    raise NotDiscovered("it has neither an openid-configuration nor an oauth-authorization-server below .well-known")


async def fetch_keys(client: OutgoingClient, issuer: str) -> KeySet:
    """Get an issuer's keys, from where its description says that they are.

    Raises:
        NotDiscovered: they cannot be got, or none can be used.
    """
    address = (await describe(client, issuer)).jwks_uri
    content = await _got(client, address)
    if content is None:
        raise NotDiscovered(f"there are no keys at {address}")
    try:
        return read_keys(content)
    except BadKeySet as error:
        raise NotDiscovered(f"of the keys at {address}: {error}") from error


def _addresses(issuer: str) -> Iterator[str]:
    """Yield where the description may be: after the issuer's path, or, as RFC 8414 has it, before it."""
    base = issuer.rstrip("/")
    parts = urlsplit(base)
    yield f"{base}/.well-known/openid-configuration"
    yield f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{parts.path}"
    if parts.path:
        yield f"{base}/.well-known/oauth-authorization-server"


async def _got(client: OutgoingClient, address: str) -> bytes | None:
    """Return what is at an address, None when the server says that nothing is."""
    try:
        answer = await client.get(address, headers={"Accept": "application/json"}, bounds=BOUNDS)
    except Unreachable as error:
        raise NotDiscovered(str(error)) from error
    if answer.status == HTTPStatus.OK:
        return answer.body
    if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.METHOD_NOT_ALLOWED}:
        return None
    raise NotDiscovered(f"{address} answered {answer.status}")


def _checked(content: bytes, address: str, issuer: str) -> Description:
    try:
        description = msgspec.json.decode(content, type=Description)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotDiscovered(f"what is at {address} describes no issuer") from error
    if description.issuer != issuer:
        raise NotDiscovered(f"what is at {address} describes another issuer")
    return description

"""A signed address called, and followed to where its server sends on, with what is secret kept to the first origin.

aiohttp drops `Authorization` alone where an origin changes; the headers of a signed address may hold secrets under any
name, so it is done here. Source: RFC 9110, section 15.4.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from broker.client.errors import Unreachable, shown_address, shown_url
from broker.client.session import Session
from broker.wire.leases import SignedUrl

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPING_METHOD = frozenset({307, 308})
_READING = frozenset({"GET", "HEAD"})


@asynccontextmanager
async def opened(
    session: Session,
    signed: SignedUrl,
    headers: Mapping[str, str],
    *,
    method: str | None = None,
    body: aiohttp.Payload | None = None,
    idle_timeout_s: float = 60.0,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Call a signed address and give the answer of whoever it leads to, for streaming.

    A session that follows no redirects gives them as they are.

    Args:
        session: Through which; of its own it sends nothing along.
        signed: What; its headers go to the origin of its address alone.
        headers: Ours, without a secret in them: they go to everybody.
        method: If it is another one than the address is for.
        body: One that can be written anew: 307 and 308 have it sent again.
        idle_timeout_s: The longest silence.

    Raises:
        ApiError: the answer's status is 400 or above.
        Unreachable: no answer, or it leads where it is not followed to.
    """
    method = method or signed.method
    address, secret = signed.url, signed.headers
    for _ in range(session.redirects + 1):
        async with session.open(
            method, address, data=body, headers={**headers, **secret}, idle_timeout_s=idle_timeout_s, is_bare=True
        ) as response:
            if response.status not in _REDIRECTS or not session.redirects:
                yield response
                return
            following = _next(response, method)
            if following.origin() != response.url.origin():
                secret = {}
        address = str(following)
    raise Unreachable(f"{shown_address(signed.url)} redirects more than {session.redirects} times", is_lasting=True)


def _next(response: aiohttp.ClientResponse, method: str) -> URL:
    shown = shown_url(response.url)
    if method not in _READING and response.status not in _KEEPING_METHOD:
        raise Unreachable(
            f"{shown} answers {method} with {response.status}, which sends nothing on: give the address that it names, "
            "or have the server answer 307 or 308",
            is_lasting=True,
        )
    location = response.headers.get("Location", "")
    try:
        following = response.url.join(URL(location, encoded=True))
        following.origin()
    except ValueError as error:
        raise Unreachable(f"{shown} redirects to what is no http or https address", is_lasting=True) from error
    if following.raw_user is not None or following.raw_password is not None:
        raise Unreachable(
            f"{shown} redirects to an address with a user's name in it, which is refused", is_lasting=True
        )
    if not location:
        raise Unreachable(f"{shown} answers {response.status} and does not say where to", is_lasting=True)
    if response.url.scheme == "https" and following.scheme != "https":
        raise Unreachable(f"{shown} redirects to an address without TLS, which is not followed", is_lasting=True)
    return following

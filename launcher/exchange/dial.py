"""From an origin to a connection: resolve, judge every address, connect to one that passed."""

import asyncio
import socket
from typing import Final

from launcher.exchange.errors import Refused
from launcher.exchange.http_head import HEAD_LIMIT_BYTES
from launcher.exchange.origins import Origin, why_refused

RESOLVE_LIMIT_S: Final = 15.0
CONNECT_LIMIT_S: Final = 15.0
ADDRESSES_TRIED: Final = 3

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(origin: Origin, *, is_trusted: bool) -> Streams:
    """Connect.

    Args:
        origin: Where to.
        is_trusted: Whether it may have any address, a private or loopback one too.

    Raises:
        Refused: 403 for its address, 502 or 504 if it cannot be reached.
    """
    failure = Refused(502, f"{origin} cannot be reached")
    for address in await judged_addresses(origin, is_trusted=is_trusted):
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                return await asyncio.open_connection(address, origin.port, limit=HEAD_LIMIT_BYTES)
        except TimeoutError:
            failure = Refused(504, f"{origin} does not answer within {CONNECT_LIMIT_S:g} s")
        except OSError as error:
            failure = Refused(502, f"{origin} cannot be reached: {error.strerror or error}")
    raise failure


async def judged_addresses(origin: Origin, *, is_trusted: bool) -> list[str]:
    """Resolve a host and return those of its addresses that may be connected to, at most `ADDRESSES_TRIED`.

    Raises:
        Refused: 403 if none may, 502 or 504 if there is none.
    """
    addresses = await _resolve(origin)
    wrong = {} if is_trusted else {address: why for address in addresses if (why := why_refused(address))}
    right = [address for address in addresses if address not in wrong]
    if not right:
        address, why = next(iter(wrong.items()))
        raise Refused(403, f"{origin} is {why} ({address}): only the site can let vms go there, as a trusted origin")
    return right[:ADDRESSES_TRIED]


async def _resolve(origin: Origin) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_LIMIT_S):
            found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise Refused(504, f"{origin.host} was not resolved within {RESOLVE_LIMIT_S:g} s") from None
    except (OSError, UnicodeError) as error:  # UnicodeError: a label that IDNA does not know
        raise Refused(502, f"{origin.host} cannot be resolved: {error}") from error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))

"""From an origin to a connection of a vm: to an address that was judged, or to none."""

import asyncio
from collections.abc import Iterable
from typing import Final

from broker.client.errors import Unreachable
from broker.client.judging import AddressRefused, Judge, NotResolved
from broker.client.origins import Origin
from launcher.exchange.errors import Refused
from launcher.exchange.http_head import HEAD_LIMIT_BYTES

CONNECT_LIMIT_S: Final = 15.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def judge_of_site(trusted_origins: Iterable[Origin]) -> Judge:
    """Return the judge of whatever connections the launcher makes to addresses that others wrote.

    Args:
        trusted_origins: The broker's, and those the site trusts: reached at whatever address they have.
    """
    return Judge(trusted_origins, "only the site can let vms go there, as a trusted origin")


async def dial(origin: Origin, judge: Judge) -> Streams:
    """Connect.

    Raises:
        Refused: 403 for its address, 502 or 504 if it cannot be reached.
    """
    failure = Refused(502, f"{origin} cannot be reached")
    for address in await _judged(origin, judge):
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                return await asyncio.open_connection(address, origin.port, limit=HEAD_LIMIT_BYTES)
        except TimeoutError:
            failure = Refused(504, f"{origin} does not answer within {CONNECT_LIMIT_S:g} s")
        except OSError as error:
            failure = Refused(502, f"{origin} cannot be reached: {error.strerror or error}")
    raise failure


async def _judged(origin: Origin, judge: Judge) -> list[str]:
    try:
        return await judge.addresses(origin)
    except Unreachable as error:
        raise Refused(_status(error), str(error)) from error


def _status(error: Unreachable) -> int:
    match error:
        case AddressRefused():
            return 403
        case NotResolved(was_silent=True):
            return 504
    return 502

"""The launcher's own connections to addresses that somebody else wrote: judged like those of a vm.

An input, an output's target or an image may be named by any URL, and the launcher stands in the node's network with the
node's rights there. So every connection, after a redirect as well, goes to the very address that was judged, and only
addresses of the public Internet are right, unless the site trusts the origin.
"""

import socket
from collections.abc import Iterable

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.tracing import Trace

from broker.client.session import Unreachable
from launcher.exchange.dial import judged_addresses
from launcher.exchange.errors import Refused
from launcher.exchange.origins import Origin


class _GuardedResolver(AbstractResolver):
    def __init__(self, trusted: frozenset[Origin]) -> None:
        self._trusted = trusted

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - every family is judged, and tried
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await _judged(Origin(host.lower().rstrip("."), port), self._trusted)
        ]

    async def close(self) -> None:
        return


class GuardedConnector(aiohttp.TCPConnector):
    """Connects to what is allowed; made inside a running loop.

    Refuses with `Unreachable`, lasting where the address is what is wrong.

    Args:
        trusted_origins: The broker's, and those the site trusts: reached at whatever address they have.
    """

    def __init__(self, trusted_origins: Iterable[Origin]) -> None:
        self._trusted = frozenset(trusted_origins)
        super().__init__(resolver=_GuardedResolver(self._trusted), use_dns_cache=False)

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """Judge an address that is written as numbers, of which a resolver is never asked; then connect."""
        host, port = req.url.host or "", req.url.port or 0
        if _is_numeric(host):
            await _judged(Origin(host, port), self._trusted)
        return await super().connect(req, traces, timeout)


async def _judged(origin: Origin, trusted: frozenset[Origin]) -> list[str]:
    try:
        return await judged_addresses(origin, is_trusted=origin in trusted)
    except Refused as refused:
        raise Unreachable(str(refused), is_lasting=refused.status == 403) from refused


def _is_numeric(host: str) -> bool:
    # As aiohttp tells them apart, 127.1 and 2130706433 among them, which resolve to the same for ever.
    return ":" in host or host.replace(".", "").isdigit()

"""Connections to addresses that somebody else wrote, each to an address that was judged.

An input, an output's target, an image, a callback or an issuer's keys may be named by any URL, and who connects stands
in a network of his own with his own rights there. So every connection, after a redirect as well, goes to the very
address that was judged, and only addresses of the public Internet are right, unless the origin is trusted.
"""

import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.tracing import Trace

from broker.client.judging import Judge
from broker.client.origins import Origin


class _GuardedResolver(AbstractResolver):
    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 # every family is judged, and tried
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
            for address in await self._judge.addresses(Origin(host.lower().rstrip("."), port))
        ]

    async def close(self) -> None:
        return


class GuardedConnector(aiohttp.TCPConnector):
    """Connects to what the judge lets pass; made inside a running loop.

    Refuses with the judge's `AddressRefused` and `NotResolved`.
    """

    def __init__(self, judge: Judge, *, limit: int = 100) -> None:
        self._judge = judge
        super().__init__(resolver=_GuardedResolver(judge), use_dns_cache=False, limit=limit)

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """Judge an address that is written as numbers, of which a resolver is never asked; then connect."""
        host, port = req.url.raw_host or "", req.url.port or 0
        if _is_numeric(host):
            await self._judge.addresses(Origin(host, port))
        return await super().connect(req, traces, timeout)


def _is_numeric(host: str) -> bool:
    # As aiohttp tells them apart, 127.1 and 2130706433 among them, which resolve to the same for ever.
    return ":" in host or host.replace(".", "").isdigit()

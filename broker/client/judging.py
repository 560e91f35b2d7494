"""From an origin to the addresses that may be connected to: resolve, judge every one.

Whoever connects does so to the very address that was judged. So a name that changes its mind between the two gains
nothing, and of a name with several addresses only those are tried that pass.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from broker.client.errors import Unreachable
from broker.client.origins import Origin, why_refused

RESOLVE_LIMIT_S: Final = 15.0
ADDRESSES_TRIED: Final = 3

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host and a port to addresses, as `socket.getaddrinfo` gives them; raises OSError or ValueError."""

# Threads of their own: a name server that somebody keeps silent must not take those that read and write files. As many
# as callbacks may be on their way in one worker: nor those by which others' servers are found. Made when needed.
_THREADS: Final = ThreadPoolExecutor(max_workers=256, thread_name_prefix="resolve")


class AddressRefused(Unreachable):
    """The origin has addresses, and may be connected to at none of them."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, is_lasting=True)


class NotResolved(Unreachable):
    """The origin's name led to no address; `was_silent` when nothing was answered in time."""

    def __init__(self, sentence: str, *, was_silent: bool = False) -> None:
        super().__init__(sentence)
        self.was_silent = was_silent


async def resolve_by_system(host: str, port: int) -> list[str]:
    """Ask the operating system; numbers in any notation that it knows (`127.1`, `0x7f.1`) are addresses, too."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(_THREADS, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Judge:
    """Tells which addresses of an origin may be connected to.

    Args:
        trusted: Reached at whatever address they have, a private or loopback one too.
        advice: What a refusal says of who could allow it.
        resolve: How names are resolved.
    """

    def __init__(self, trusted: Iterable[Origin], advice: str, resolve: Resolve = resolve_by_system) -> None:
        self._trusted = frozenset(trusted)
        self._advice = advice
        self._resolve = resolve

    def trusts(self, origin: Origin) -> bool:
        return origin in self._trusted

    async def addresses(self, origin: Origin) -> list[str]:
        """Resolve a host and return those of its addresses that may be connected to, at most `ADDRESSES_TRIED`.

        Raises:
            AddressRefused: none may.
            NotResolved: there is none; trying again may help.
        """
        addresses = await self._resolved(origin)
        wrong = {} if self.trusts(origin) else {address: why for address in addresses if (why := why_refused(address))}
        right = [address for address in addresses if address not in wrong]
        if not right:
            address, why = next(iter(wrong.items()))
            raise AddressRefused(f"{origin} is {why} ({address}): {self._advice}")
        return right[:ADDRESSES_TRIED]

    async def _resolved(self, origin: Origin) -> Sequence[str]:
        try:
            async with asyncio.timeout(RESOLVE_LIMIT_S):
                addresses = await self._resolve(origin.host, origin.port)
        except TimeoutError:
            sentence = f"{origin.host} was not resolved within {RESOLVE_LIMIT_S:g} s"
            raise NotResolved(sentence, was_silent=True) from None
        except (OSError, ValueError) as error:  # ValueError: a label that IDNA does not know, a null character
            raise NotResolved(f"{origin.host} cannot be resolved: {error}") from error
        if not addresses:
            raise NotResolved(f"{origin.host} cannot be resolved: it has no address")
        return addresses

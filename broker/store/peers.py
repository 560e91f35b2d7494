"""Broker processes over one store speak to each other: published, never kept, and lost where nobody listens.

One channel is heard by all of them, one by each alone. It costs the store nothing while nobody speaks.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from broker.store.listening import listen
from broker.store.reading import Reading


class Peers(Reading):
    async def tell_peers(self, text: bytes, *, only: str = "") -> int:
        """Say something to all processes that listen, this one too, or to `only` one; return how many heard it.

        Raises:
            Unavailable: it may or may not have been heard.
        """
        return int(await self._server.command("PUBLISH", self._channel(only), text))

    @asynccontextmanager
    async def peers(self, own: str) -> AsyncIterator[AsyncIterator[str]]:
        """Listen to what is said to all, and to `own` alone, for as long as the context is open.

        One connection, opened again by itself; what was said while it was away is lost.
        """
        channels = self._channel(""), self._channel(own)
        async with aclosing(listen(self._server, lambda pubsub: pubsub.subscribe(*channels), "peers")) as messages:
            yield (message["data"] async for message in messages)

    def _channel(self, process: str) -> str:
        return f"{self._keys.peers}:{process}" if process else self._keys.peers

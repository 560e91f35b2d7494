"""Broker processes over one store speak to each other: published, never kept, and lost where nobody listens.

One channel is heard by all of them, one by each alone. It costs the store nothing while nobody speaks.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import structlog
from redis.exceptions import RedisError

from broker.store.failures import meaning_of
from broker.store.reading import Reading

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_LISTEN_S = 30.0

log = structlog.get_logger()


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
        async with aclosing(self._listen_to_peers(own)) as said:
            yield said

    async def _listen_to_peers(self, own: str) -> AsyncGenerator[str, None]:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                async with self._server.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel(""), self._channel(own))
                    while True:
                        message = await pubsub.get_message(timeout=_LISTEN_S)
                        pause_s = _FIRST_PAUSE_S
                        if message is not None:
                            yield message["data"]
            except (RedisError, OSError) as error:
                if isinstance(error, RedisError) and meaning_of(error) is None:
                    raise
                log.warning("peers_interrupted", error=str(error), retry_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _channel(self, process: str) -> str:
        return f"{self._keys.peers}:{process}" if process else self._keys.peers

"""Listening to channels of the store for ever: one connection, opened again by itself."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from broker.store.failures import meaning_of
from broker.store.server import Server

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_LISTEN_S = 30.0

log = structlog.get_logger()


async def listen(
    server: Server, subscribe: Callable[[PubSub], Awaitable[Any]], what: str
) -> AsyncGenerator[dict[str, str], None]:
    """Yield every message of the channels that `subscribe` asks for; those sent while the store was away are lost.

    `what` is listened to, for the log.
    """
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            async with server.pubsub() as pubsub:
                await subscribe(pubsub)
                while True:
                    message = await pubsub.get_message(timeout=_LISTEN_S)
                    pause_s = _FIRST_PAUSE_S
                    if message is not None:
                        yield message
        except (RedisError, OSError) as error:
            if isinstance(error, RedisError) and meaning_of(error) is None:
                raise
            log.warning("listening_interrupted", what=what, error=str(error), retry_in_s=pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

"""Doorbells: the store publishes that something became ready, and that a stream's log grew; they say when to look.

Of ready items every process hears. Of a log that grew only those hear that follow it: a channel that nobody listens to
costs its publisher nothing, and a busy broker is not woken by every event of every stream.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from broker.store.answers import Bell, Grown, Ready
from broker.store.keys import Keys
from broker.store.listening import listen
from broker.store.server import Server
from broker.wire.names import StreamRef, UserName, parse_owned

log = structlog.get_logger()


class Bells:
    """The bells that one process hears."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys
        self._followed: set[StreamRef | UserName] = set()
        self._pubsub: PubSub | None = None
        self._heard: set[StreamRef | UserName] = set()
        """What the connection was asked for, and not yet to leave out."""
        self._asking = asyncio.Lock()

    @asynccontextmanager
    async def ringing(self) -> AsyncIterator[AsyncIterator[Bell]]:
        """Listen for as long as the context is open.

        One connection, opened again by itself. Bells rung while it was away are lost: look now and then anyway.
        """
        async with aclosing(listen(self._server, self._subscribe, "bells")) as messages:
            yield (self._bell(message) async for message in messages)

    async def follow(self, what: StreamRef | UserName) -> None:
        """Hear from now on when the stream's log, or that of any stream of the user's, grows."""
        self._followed.add(what)
        await self._ask_for(what)

    async def leave(self, what: StreamRef | UserName) -> None:
        """Do not hear it any more."""
        self._followed.discard(what)
        await self._ask_for(what)

    async def _subscribe(self, pubsub: PubSub) -> None:
        async with self._asking:
            await pubsub.subscribe(self._keys.ready_bell)
            self._pubsub, self._heard = pubsub, set()
        for what in tuple(self._followed):
            await self._ask_for(what)

    async def _ask_for(self, what: StreamRef | UserName) -> None:
        """Ask the connection for what is followed now, in turn: who leaves and who comes may do so at once."""
        async with self._asking:
            pubsub = self._pubsub
            # One whose connection is lost would open another, which nobody would ever read or close.
            is_away = pubsub is None or pubsub.connection is None
            if pubsub is None or is_away or (what in self._followed) == (what in self._heard):
                return
            is_user, channel = isinstance(what, str), self._channel(what)
            try:
                if what in self._followed:
                    await (pubsub.psubscribe(channel) if is_user else pubsub.subscribe(channel))
                    self._heard.add(what)
                else:
                    await (pubsub.punsubscribe(channel) if is_user else pubsub.unsubscribe(channel))
                    self._heard.discard(what)
            except (RedisError, OSError) as error:
                # The listener finds its connection broken as well, and asks for everything on the next one.
                log.info("bells_not_asked_for", what=str(what), reason=str(error))

    def _channel(self, what: StreamRef | UserName) -> str:
        return f"{self._keys.bells}{what}/*" if isinstance(what, str) else f"{self._keys.bells}{what}"

    def _bell(self, message: dict[str, str]) -> Bell:
        if message["channel"] == self._keys.ready_bell:
            return Ready(parse_owned(message["data"], None, "stream"))
        stream = parse_owned(message["channel"].removeprefix(self._keys.bells), None, "stream")
        return Grown(stream if message["type"] == "message" else stream.user)

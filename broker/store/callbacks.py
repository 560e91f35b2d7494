"""The outbox: events that the servers of users' streams are told, each until it is told or given up.

An event that settles items is owed in the very script that settles them. Whoever tells it takes it for a while, says
when an attempt begins and what became of it; what was taken and is not heard of again is due again. So every event is
told at least once, whoever dies on the way.
"""

import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import msgspec
from redis.asyncio.client import PubSub

from broker.store import arguments
from broker.store.answers import CallbackOutcome, OwedCallback
from broker.store.event_log import event_of
from broker.store.listening import listen
from broker.store.reading import Reading
from broker.store.records import bounded_sentence
from broker.store.scripts import Word
from broker.wire.callbacks import EVENT_KINDS, webhook_id
from broker.wire.events import Event
from broker.wire.names import StreamRef, UserName
from broker.wire.streams import StreamSpec

ATTEMPT_MS = 60_000
"""An attempt that was begun and is not noted within this is due again: far longer than one takes."""
CALLBACK_OFF = "callback_gone"
"""The server said that it is no more."""
ENTRY_PATTERN = r"[0-9]{1,18}-[0-9]{1,18}"
"""Both parts of an id fit into the 64 bits that the store has for each."""
_ENTRY = re.compile(ENTRY_PATTERN)
Entry = tuple[str, dict[str, str]]
"""Of the outbox: its id there and its fields."""


class Callbacks(Reading):
    async def take_callbacks(self, most: int, most_per_user: int, visible_after_ms: int) -> list[OwedCallback]:
        """Return what is to be told now, the oldest of each user first, users in turn.

        `most` is at most 1,000. A user has at most `most_per_user` out at once: further ones wait until one of them is
        noted. What is not noted within `visible_after_ms`, or begun, is returned again.

        Raises:
            Unavailable: what was taken is returned again later.
        """
        reply = await self._server.act(
            arguments.TakeCallbacks(most=most, most_per_user=most_per_user, visible_ms=visible_after_ms),
            None,
            **self._outbox_keys(),
        )
        taken = list(zip(reply.values[::2], reply.values[1::2], strict=True))
        kept = await self._server.commands([self._range_of(UserName(user), entry) for user, entry in taken])
        tried = await self._server.commands(
            [("HGET", self._keys.callback(UserName(user), entry), "attempts") for user, entry in taken]
        )
        return [
            _owed(UserName(user), found[0], int(attempts or 0))
            for (user, _), found, attempts in zip(taken, kept, tried, strict=True)
            if found
        ]

    async def begin_callback(self, entry: str) -> OwedCallback | None:
        """Count an attempt at what `take_callbacks` returned as `entry`; None when it is owed no more.

        Nobody is given it beside this attempt for `ATTEMPT_MS`.

        Raises:
            Unavailable: nothing may be told now; it is taken again later.
        """
        user, id_ = _split(entry)
        found = await self._server.command(*self._range_of(user, id_))
        if not found:
            return None
        event = callback_event(user, found[0])
        reply = await self._server.act(
            arguments.BeginCallback(entry=id_, id=webhook_id(event.source, event.id), visible_ms=ATTEMPT_MS),
            None,
            owed=f"{self._keys.owed_of}{user}",
            out=f"{self._keys.out_of}{user}",
            record=self._keys.callback(user, id_),
            callback_ids=f"{self._keys.callback_ids_of}{user}",
        )
        return _owed(user, found[0], int(reply.values[0])) if reply.word == Word.DONE else None

    async def note_callback(self, entry: str, outcome: CallbackOutcome) -> None:
        """Keep what became of an attempt at `entry`. Idempotent; nothing happens to what is owed no more.

        Raises:
            Unavailable: say it again, or it is told again.
        """
        user, id_ = _split(entry)
        await self._server.act(
            arguments.NoteCallback(
                user=user,
                entry=id_,
                state=outcome.state.value,
                sentence=bounded_sentence(outcome.sentence),
                status="" if outcome.status is None else str(outcome.status),
                again_ms=outcome.again_ms,
            ),
            None,
            **self._outbox_keys(),
            outbox_bell=self._keys.outbox_bell,
        )

    async def stop_callback(self, ref: StreamRef, sentence: str) -> None:
        """Owe a stream's server nothing more, until its spec is put again; idempotent. What it is owed stays owed.

        `sentence` says why, in the stream's view and its log.
        """
        await self._server.act(
            arguments.StopCallback(user=ref.user, job=ref.name, code=CALLBACK_OFF, sentence=bounded_sentence(sentence)),
            self._keys.of_stream(ref),
        )

    @asynccontextmanager
    async def owing(self) -> AsyncIterator[AsyncIterator[None]]:
        """Hear while the context is open that something may be due; a bell may be lost: look now and then anyway."""

        async def subscribe(pubsub: PubSub) -> None:
            await pubsub.subscribe(self._keys.outbox_bell)

        async with aclosing(listen(self._server, subscribe, "outbox")) as messages:
            yield (None async for _ in messages)

    def _range_of(self, user: UserName, entry: str) -> tuple[str, str, str, str]:
        return "XRANGE", f"{self._keys.outbox_of}{user}", entry, entry

    def _outbox_keys(self) -> dict[str, str]:
        return {
            "owing": self._keys.owing,
            "outbox_of": self._keys.outbox_of,
            "owed_of": self._keys.owed_of,
            "out_of": self._keys.out_of,
            "delivered_of": self._keys.delivered_of,
            "dead_of": self._keys.dead_of,
            "callbacks_of": self._keys.callbacks_of,
            "callback_ids_of": self._keys.callback_ids_of,
            "accounts": self._keys.accounts,
        }


def told_kinds(spec: StreamSpec) -> str:
    """Return the kinds of events that a spec wants told, with a blank around each; '' when nobody is told."""
    return "" if spec.callback is None else f" {' '.join(spec.callback.events or EVENT_KINDS)} "


def _split(entry: str) -> tuple[UserName, str]:
    user, _, id_ = entry.rpartition("/")
    assert user, entry
    assert _ENTRY.fullmatch(id_), entry
    return UserName(user), id_


def callback_event(user: UserName, entry: Entry) -> Event:
    """Return the event that an entry of the outbox holds, as its stream's log has it."""
    _, fields = entry
    return event_of(StreamRef(user, fields["job"]), fields["id"], fields)


def _owed(user: UserName, entry: Entry, attempts: int) -> OwedCallback:
    event = callback_event(user, entry)
    return OwedCallback(
        entry=f"{user}/{entry[0]}",
        id=webhook_id(event.source, event.id),
        stream=StreamRef(user, entry[1]["job"]),
        body=msgspec.json.encode(event),
        attempts=attempts,
    )

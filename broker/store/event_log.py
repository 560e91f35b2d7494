"""A stream's event log and a user's feed, read in order.

Whoever goes on after an id is told of a gap unless that id is in the log, or was the last one trimmed: no id of an
earlier life of the stream, or of an event that the store told and then lost, is in the log, whatever was written since.
"""

import re

import msgspec
import structlog
from msgspec import UNSET, UnsetType

from broker.domain.errors import Rejected
from broker.store.answers import EventBatch
from broker.store.bells import Bells
from broker.store.items import no_stream
from broker.store.reading import Reading
from broker.store.records import rfc3339
from broker.wire.events import TYPE_PREFIX, Event
from broker.wire.names import ItemRef, StreamRef, UserName
from broker.wire.problems import ProblemCode

MAX_EVENTS = 1_000
"""Events in one batch."""
_SEQUENCE_DIGITS = 20
_EVENT_ID = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
"""Both parts fit into the 64 bits that the store has for each."""
_Entry = tuple[str, dict[str, str]]

log = structlog.get_logger()


class EventLog(Reading):
    async def read_events(self, ref: StreamRef, after: str | None, limit: int) -> EventBatch:
        """Return events after the id `after`, or from the oldest kept, in order and without a gap.

        `truncated` says that some are gone, and the batch begins with the oldest kept: the log was trimmed, or the id
        is of an earlier life of the stream, or of an event that the store lost.

        Raises:
            Rejected: no such stream, or the id or limit is not valid.
        """
        keys = self._keys.of_stream(ref)
        exists, truncated, entries = await self._kept(keys.events, keys.stream, after, limit)
        if not exists:
            raise no_stream(ref)
        return EventBatch([event_of(ref, id_, fields) for id_, fields in entries], truncated)

    async def read_feed(self, user: UserName, after: str | None, limit: int) -> EventBatch:
        """Return the events of all of the user's streams, as `read_events` does; the ids are the feed's.

        A user who never had a stream has an empty feed.

        Raises:
            Rejected: the id or limit is not valid.
        """
        feed = self._keys.feed(user)
        _, truncated, entries = await self._kept(feed, feed, after, limit)
        events = [event_of(StreamRef(user, fields["job"]), fields["id"], fields, id_) for id_, fields in entries]
        return EventBatch(events, truncated)

    async def _kept(self, log_: str, owner: str, after: str | None, limit: int) -> tuple[bool, bool, list[_Entry]]:
        """Return whether the key `owner` is there, whether entries after `after` are gone, and what follows it."""
        if not 0 < limit <= MAX_EVENTS:
            raise Rejected(ProblemCode.BAD_REQUEST, f"ask for 1 to {MAX_EVENTS} events at a time, not {limit}")
        epoch, sequence = _event_id(after)
        place = f"{epoch}-{sequence}"
        exists, oldest, seen, entries = await self._server.commands(
            [
                ("EXISTS", owner),
                ("XRANGE", log_, "-", "+", "COUNT", 1),
                ("XRANGE", log_, place, place),
                ("XRANGE", log_, f"({place}", "+", "COUNT", limit),
            ],
            atomic=True,
        )
        first = _event_id(oldest[0][0]) if oldest else (0, 1)
        is_known = bool(seen) or (first == (epoch, sequence + 1)) or (after is None and first[1] == 1)
        if not is_known and after is not None:
            entries = await self._server.command("XRANGE", log_, "-", "+", "COUNT", limit)
        return bool(exists), not is_known, entries

    def bells(self) -> Bells:
        """Return what hears the store's bells; each one listens over a connection of its own."""
        return Bells(self._server, self._keys)


def _event_id(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 0
    match = _EVENT_ID.fullmatch(text)
    if match is None:
        raise Rejected(ProblemCode.BAD_REQUEST, f"{text[:64]!r} is no event's id: pass the last one you saw, or none")
    return int(match[1]), int(match[2])


def event_of(ref: StreamRef, id_: str, fields: dict[str, str], position: str | UnsetType = UNSET) -> Event:
    """Return the event that an entry of a log, a feed or the outbox holds."""
    number = fields["number"]
    try:
        data = msgspec.json.decode(fields["data"], type=dict[str, str | int | None])
    except msgspec.DecodeError as error:
        # One event without its data loses less than a log that ends at it for ever: a reader relies on the sequence.
        log.warning("event_unreadable", stream=str(ref), id=id_, error=str(error))
        data = {}
    return Event(
        id=id_,
        source=f"/streams/{ref}",
        type=TYPE_PREFIX + fields["kind"],
        time=rfc3339(int(fields["at_ms"])),
        sequence=id_.partition("-")[2].zfill(_SEQUENCE_DIGITS),
        data=data,
        subject=str(ItemRef(ref, int(number))) if number else UNSET,
        position=position,
    )

"""Reading events of a stream, or of all streams of a user, over as many connections as it takes.

Each connection goes on after the last event that was received, by `Last-Event-ID`, so none is missed and none comes
twice. Where the broker no longer has them, `Truncated` says what the items count to now.

Source: HTML Living Standard, section "Server-sent events".
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial

import aiohttp
import msgspec

from broker.client.lasting import SILENCE_S, lasting
from broker.client.researcher import NDJSON, lines_of
from broker.client.session import Session
from broker.wire.events import Event, Truncated, TruncatedLine
from broker.wire.names import StreamRef, UserName

_MAX_EVENT_BYTES = 1_048_576
_TRUNCATED = b'{"truncated":'
"""What a line begins with that stands for events no longer kept."""

Said = Event | Truncated


@dataclass(slots=True)
class Message:
    """One message of an event stream, after its blank line."""

    kind: str = "message"
    id: str | None = None
    data: str = ""


@dataclass(slots=True)
class SseParser:
    """Puts messages together from bytes, however they were cut."""

    _rest: bytes = b""
    _kind: str = ""
    _id: str | None = None
    _data: list[str] = field(default_factory=list)

    def feed(self, chunk: bytes) -> list[Message]:
        """Take bytes in; return the messages that are complete now."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _MAX_EVENT_BYTES:
            raise ValueError("the broker sent a line that is longer than any event")
        messages = []
        for line in lines:
            message = self._take(line.removesuffix(b"\r").decode())
            if message is not None:
                messages.append(message)
        return messages

    def _take(self, line: str) -> Message | None:
        if not line:
            message = Message(self._kind or "message", self._id, "\n".join(self._data)) if self._data else None
            self._kind, self._data = "", []
            return message
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "id":
                self._id = value
            case "event":
                self._kind = value
            case _:
                pass  # a comment is a heartbeat, `retry` is the broker's wish for browsers
        return None


async def follow(session: Session, what: StreamRef | UserName, after: str | None = None) -> AsyncIterator[Said]:
    """Yield the events of a stream, or of all of a user's, after the place `after`, for ever.

    Raises:
        ApiError: the broker refuses.
        Unreachable: it stayed away for two minutes.
    """
    async for said in _resumed(partial(_messages, session, what), after, is_endless=True):
        yield said


async def read(session: Session, what: StreamRef | UserName, after: str | None = None) -> AsyncIterator[Said]:
    """Yield the events that are still kept, and end; raises as `follow` does."""
    async for said in _resumed(partial(_lines, session, what), after, is_endless=False):
        yield said


async def _resumed(
    connect: Callable[[str | None], AsyncIterator[Said]], after: str | None, *, is_endless: bool
) -> AsyncIterator[Said]:
    place = [after]
    async for said in lasting(lambda: connect(place[0]), is_endless=is_endless):
        if isinstance(said, Event):
            place[0] = said.place
        yield said


async def _messages(session: Session, what: StreamRef | UserName, after: str | None) -> AsyncIterator[Said]:
    parser = SseParser()
    async with _opened(session, what, after, "text/event-stream") as answer:
        async for chunk in answer.content.iter_any():
            for message in parser.feed(chunk):
                kind: type[Said] = Truncated if message.kind == "truncated" else Event
                yield msgspec.json.decode(message.data, type=kind)


async def _lines(session: Session, what: StreamRef | UserName, after: str | None) -> AsyncIterator[Said]:
    async with _opened(session, what, after, NDJSON) as answer:
        async for line in lines_of(answer):
            if line.startswith(_TRUNCATED):
                yield msgspec.json.decode(line, type=TruncatedLine).truncated
            else:
                yield msgspec.json.decode(line, type=Event)


def _opened(
    session: Session, what: StreamRef | UserName, after: str | None, accept: str
) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    headers = {"Accept": accept} | ({"Last-Event-ID": after} if after else {})
    path, query = ("/v1/events", {"user": what}) if isinstance(what, str) else (f"/v1/streams/{what}/events", None)
    return session.open("GET", path, headers=headers, query=query, idle_timeout_s=SILENCE_S)

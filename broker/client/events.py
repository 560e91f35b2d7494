"""Following a stream's events, over as many connections as it takes.

Each connection goes on after the last event that was received, by `Last-Event-ID`, so none is missed and none comes
twice. Where the broker no longer has them, `Truncated` says what the stream counts to now.

Source: HTML Living Standard, section "Server-sent events".
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec

from broker.client.errors import CallError, may_help_to_repeat
from broker.client.session import Patience, Session
from broker.wire.events import Event, Truncated
from broker.wire.names import StreamRef

SILENCE_S = 45.0
"""Three heartbeats: a connection silent for longer is dead."""
_MAX_EVENT_BYTES = 1_048_576
_FOLLOW_PATIENCE = Patience(attempts=1_000, total_s=120.0, max_delay_s=5.0)


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


async def follow(session: Session, ref: StreamRef, after: str | None = None) -> AsyncIterator[Event | Truncated]:
    """Yield a stream's events after `after`, for ever.

    Raises:
        ApiError: the broker refuses.
        Unreachable: it stayed away for two minutes.
    """
    lost_at_s: float | None = None
    attempt = 0
    while True:
        try:
            async for message in _connection(session, ref, after):
                attempt, lost_at_s = 0, None
                if message.kind == "truncated":
                    yield msgspec.json.decode(message.data, type=Truncated)
                    continue
                after = message.id or after
                yield msgspec.json.decode(message.data, type=Event)
        except CallError as error:
            lost_at_s = lost_at_s or time.monotonic()
            is_too_long = time.monotonic() - lost_at_s > _FOLLOW_PATIENCE.total_s
            if not may_help_to_repeat(error) or is_too_long:
                raise
        attempt += 1
        await asyncio.sleep(_FOLLOW_PATIENCE.delay_s(attempt, None))


async def _connection(session: Session, ref: StreamRef, after: str | None) -> AsyncIterator[Message]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
    parser = SseParser()
    async with session.open("GET", f"/v1/streams/{ref}/events", headers=headers, idle_timeout_s=SILENCE_S) as answer:
        async for chunk in answer.content.iter_any():
            for message in parser.feed(chunk):
                yield message

"""Callbacks: what a researcher's server is told of settled items, and what became of the telling.

Each is one POST of one event: the CloudEvent in JSON as the body, signed as Standard Webhooks 1.0 has it. It is told at
least once; `webhook-id` is the same each time.
"""

import hashlib
from enum import StrEnum

from broker.wire.kinds import FromPerson, Message

EVENT_KINDS = ("item.completed", "item.held", "item.cancelled", "items.held", "items.cancelled")
"""Events that settle items: those of many at once are told as one."""


def webhook_id(source: str, event: str) -> str:
    """Return the `webhook-id` of the event `event` of the log `source`: the same each time that it is told."""
    return "evt_" + hashlib.sha256(f"{source}\n{event}".encode()).hexdigest()[:32]


class Callback(FromPerson, frozen=True, kw_only=True):
    """Where a stream's server is told of settled items, by https.

    `secrets`: one or two of the stream's own user, of kind `webhook_key`; two while a key is replaced, each signs.
    `events`: which of those that settle items; absent: all of them.
    """

    url: str
    secrets: tuple[str, ...]
    events: tuple[str, ...] = ()


class CallbackState(StrEnum):
    WAITING = "waiting"
    """To be told, for the first time or again."""
    DELIVERED = "delivered"
    DEAD = "dead"
    """Given up: nobody is told any more until it is replayed."""


class CallbackView(Message, frozen=True, kw_only=True):
    """One callback. `callback` is its `webhook-id`; `status`: what the server answered last, absent without one."""

    callback: str
    stream: str
    event: str
    type: str
    state: CallbackState
    created_at: str
    attempts: int = 0
    subject: str | None = None
    last_at: str | None = None
    status: int | None = None
    sentence: str = ""
    next_at: str | None = None


class CallbackPage(Message, frozen=True, kw_only=True):
    callbacks: list[CallbackView]
    next_cursor: str | None = None
    counts: dict[str, int] = {}
    """Of the user's callbacks, by state; `dropped`: given up, and then kept no longer."""


class CallbackTried(Message, frozen=True, kw_only=True):
    """The answer to a test: what the server said to an event that settles nothing, sent once, now."""

    callback: str
    delivered: bool
    sentence: str
    status: int | None = None
    took_ms: int = 0

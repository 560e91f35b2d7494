"""Events: CloudEvents 1.0 in structured JSON, with a gapless sequence within a stream.

`id` is `EPOCH-SEQUENCE`; a new epoch begins when a stream is made anew, and with another process that serves the store.
A user's feed carries the same events, the same `id` and `source`, and beside them its own `position`, of the same form.
Source: CloudEvents core specification 1.0.2 and its `sequence` extension.
"""

from enum import StrEnum

import msgspec

TYPE_PREFIX = "org.vmbroker."


class EventType(StrEnum):
    STREAM_CREATED = "stream.created"
    STREAM_PAUSED = "stream.paused"
    STREAM_RESUMED = "stream.resumed"
    STREAM_CALLBACK_OFF = "stream.callback_off"
    STREAM_PURGED = "stream.purged"
    BULK_STARTED = "bulk.started"
    BULK_ENDED = "bulk.ended"
    ITEMS_PUSHED = "items.pushed"
    ITEMS_CANCELLED = "items.cancelled"
    ITEMS_HELD = "items.held"
    ITEMS_RELEASED = "items.released"
    ITEMS_FORGOTTEN = "items.forgotten"
    ITEM_READY = "item.ready"
    ITEM_DISPATCHED = "item.dispatched"
    ITEM_CLAIMED = "item.claimed"
    ITEM_COMPLETED = "item.completed"
    ITEM_DELAYED = "item.delayed"
    ITEM_GIVEN_BACK = "item.given_back"
    ITEM_HELD = "item.held"
    ITEM_RELEASED = "item.released"
    ITEM_CANCELLED = "item.cancelled"
    SECRET_GIVEN = "secret.given"  # noqa: S105 # the name of an event
    TICKET_REPLAYED = "ticket.replayed"
    TICKET_SPENT = "ticket.spent"
    VM_PREPARING = "vm.preparing"
    VM_PREPARED = "vm.prepared"
    VM_BOOTING = "vm.booting"
    VM_STARTED = "vm.started"
    VM_CLAIMED = "vm.claimed"
    VM_ENDED = "vm.ended"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One fact. `type` is `org.vmbroker.` and an `EventType`; `subject` is the item where there is one.

    `position` is there in a user's feed only. Every other attribute is written out, defaults too: CloudEvents requires
    `specversion`. An attribute that is not there is left out: its own SDK refuses null, which older brokers send.
    """

    id: str
    source: str
    type: str
    time: str
    sequence: str
    data: dict[str, str | int | None] = {}
    subject: str | msgspec.UnsetType | None = msgspec.UNSET
    specversion: str = "1.0"
    datacontenttype: str = "application/json"
    position: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def is_known(self) -> bool:
        """Tell whether the type is one of `EventType`; a newer broker may send others."""
        return self.type.removeprefix(TYPE_PREFIX) in EventType._value2member_map_

    @property
    def kind(self) -> EventType:
        return EventType(self.type.removeprefix(TYPE_PREFIX))

    @property
    def place(self) -> str:
        """What a reader of this log shows to go on after this event."""
        return self.id if self.position is msgspec.UNSET else self.position


class Truncated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sent in place of events that the log no longer holds: what the items of the stream or the user count to now."""

    counts: dict[str, int]
    stream: str | None = None
    user: str | None = None


class TruncatedLine(msgspec.Struct, frozen=True, kw_only=True):
    """The same where events come as lines."""

    truncated: Truncated

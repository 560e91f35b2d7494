"""Events: CloudEvents 1.0 in structured JSON, with a gapless sequence within a stream.

`id` is `EPOCH-SEQUENCE`; a new epoch begins when a stream is made anew. Source: CloudEvents core specification 1.0.2
and its `sequence` extension.
"""

from enum import StrEnum

import msgspec

TYPE_PREFIX = "org.vmbroker."


class EventType(StrEnum):
    STREAM_CREATED = "stream.created"
    STREAM_PAUSED = "stream.paused"
    STREAM_RESUMED = "stream.resumed"
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

    Every attribute is written out, defaults too: CloudEvents requires `specversion`.
    """

    id: str
    source: str
    type: str
    time: str
    sequence: str
    data: dict[str, str | int | None] = {}
    subject: str | None = None
    specversion: str = "1.0"
    datacontenttype: str = "application/json"

    @property
    def kind(self) -> EventType:
        return EventType(self.type.removeprefix(TYPE_PREFIX))


class Truncated(msgspec.Struct, frozen=True, kw_only=True):
    """Sent in place of events that the log no longer holds: what the stream's items count to now."""

    stream: str
    counts: dict[str, int]

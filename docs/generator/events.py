"""The blocks of the page on events: who emits each, and what is in its data, read from the store's scripts."""

import re

from broker.store import scripts
from broker.wire.events import EventType
from docs.generator.layout import code, codes, table

_MEANINGS = {
    EventType.STREAM_CREATED: "the stream is there; a later change of its spec has no event",
    EventType.STREAM_CALLBACK_OFF: "the stream's server said that it is gone: it is told nothing more",
    EventType.STREAM_PAUSED: "the stream gives nothing out for now; what is out goes on",
    EventType.STREAM_RESUMED: "the stream gives out again",
    EventType.STREAM_PURGED: "the stream and all its items are gone",
    EventType.BULK_STARTED: "an act on all items that are in one of `states` begins",
    EventType.BULK_ENDED: "it has been done, to `count` items",
    EventType.ITEMS_PUSHED: "items were added, the numbers `first` to `last`; `delayed` of them become ready later",
    EventType.ITEMS_CANCELLED: "a bulk act stopped items for good",
    EventType.ITEMS_HELD: "a bulk act set items aside",
    EventType.ITEMS_RELEASED: "a bulk act put held items back",
    EventType.ITEMS_FORGOTTEN: "the stream's `keep` is over for `count` settled items, of those from `first` to `last`",
    EventType.ITEM_READY: "a delayed item's pause is over",
    EventType.ITEM_DISPATCHED: "a launcher took the item",
    EventType.ITEM_CLAIMED: "a guest claimed the item and runs it",
    EventType.ITEM_COMPLETED: "the result was accepted",
    EventType.ITEM_DELAYED: "an attempt failed; the item is tried again later",
    EventType.ITEM_GIVEN_BACK: "the item came back without an attempt counted; it is ready, or delayed",
    EventType.ITEM_HELD: "the item is tried no more",
    EventType.ITEM_RELEASED: "a held item is ready again, its counters reset",
    EventType.ITEM_CANCELLED: "somebody stopped the item for good; `dispatch` is there when a vm had it",
    EventType.SECRET_GIVEN: "a secret was handed to the guest that has the item, with its claim or when it changed",
    EventType.TICKET_REPLAYED: "a live ticket came with another claim key; the item is given back next",
    EventType.TICKET_SPENT: "a ticket came whose dispatch is over; told once a vm",
    EventType.VM_PREPARING: "the launcher gets images and makes overlays",
    EventType.VM_PREPARED: "everything for the boot is there",
    EventType.VM_BOOTING: "the launcher asks libvirt for the domain",
    EventType.VM_STARTED: "the domain runs",
    EventType.VM_CLAIMED: "the vm's guest claimed the item",
    EventType.VM_ENDED: "the vm is gone; its verdict stands",
}
_FIELDS = {
    "accelerator": "`kvm` or `tcg`",
    "act": "what took the item from its vm (`fail`, `give_back`, `revoke`, `expire`, `end`), or was done to the stream",
    "by": "who asked for it",
    "boots": "dispatches of the item so far",
    "code": "why, as a closed code",
    "count": "how many items",
    "delayed": "how many of the push become ready later",
    "delay_ms": "the pause, when the item is delayed",
    "dispatch": "id of the dispatch, which is the vm's",
    "exit_code": "the program's exit status",
    "fence": "the dispatch's number within the item",
    "first": "first number of the push, or lowest of those forgotten",
    "guest_os": "what the guest says it is",
    "is_late": "1 when the lease had expired before, else 0",
    "last": "last number of the push, or highest of those forgotten",
    "launcher": "name of the launcher; not in a `vm.claimed` that the claim itself emits",
    "machine": "`USER/NAME` of the machine",
    "machine_revision": "revision of the machine",
    "memory_mib": "memory of the vm",
    "node": "host of the launcher",
    "numbers": "which items, as ranges: `1-4,6`",
    "phase": "the vm's phase",
    "revision": "revision of the stream's spec",
    "secret": "name of the secret, among the user's; never its value",
    "sentence": "why, for a person",
    "state": "state of the item now",
    "states": "the states, each between commas",
    "version": "version of the secret",
    "vcpus": "virtual processors of the vm",
    "verdict": "the verdict that stands",
    "was": "state of the item before",
}
_TABLE = r"\{([^{}]*)\}"
_FIELD = re.compile(r"(\w+) = ")


def event_types() -> str:
    """Return the table of event types."""
    rows = ((code(event), _MEANINGS[event], codes(_emitters(event)), codes(_data(event))) for event in EventType)
    return table(("`type`, after `org.vmbroker.`", "what happened", "emitted by", "`data`"), rows)


def event_fields() -> str:
    """Return the table of what the fields of `data` mean."""
    used = {field for event in EventType for field in _data(event)}
    return table(("field", "meaning"), ((code(field), _FIELDS[field]) for field in sorted(used)))


def _emitters(event: EventType) -> list[str]:
    return [name for name in scripts.names() if event in " ".join(scripts.load(name).header["EMITS"]).split()]


def _data(event: EventType) -> list[str]:
    """Return the fields that the event's scripts write, in the order in which they do."""
    fields: dict[str, None] = {}
    for name in _emitters(event):
        source = re.sub(r"--.*", "", scripts.load(name).source)
        fields |= dict.fromkeys(_FIELD.findall(_written(source, event)))
        if event.value.startswith("item.") and f"emit('{event}'" not in source:
            fields |= dict.fromkeys(_added(source, event))
    return list(fields)


def _written(source: str, event: EventType) -> str:
    """Return the Lua table that becomes the event's data."""
    for start in (rf"emit\('{event}', [^{{]*", r"emit\('vm\.' \.\. phase, [^{]*", r"local data = "):
        found = re.search(start + _TABLE, source)
        if found:
            return found[1]
    raise LookupError(f"no script's text shows the data of {event}")


def _added(source: str, event: EventType) -> list[str]:
    """Return the fields put into the data afterwards, which only an item that is not held has."""
    return [] if event is EventType.ITEM_HELD else re.findall(r"data\.(\w+) = ", source)

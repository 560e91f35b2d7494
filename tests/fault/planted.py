"""A small history in which nothing is wrong, and ways to make something wrong in it."""

from collections.abc import Callable
from typing import Any

import msgspec

from broker.wire.events import TYPE_PREFIX, Event, EventType
from broker.wire.files import ResultLine
from broker.wire.items import ItemView, OutputFile
from broker.wire.states import ItemState
from broker.wire.streams import Retry
from tests.fault.checker import check
from tests.fault.evidence import Evidence, FaultKind, StreamEvidence
from tests.fault.history import DONE, REFUSED, Call, Facts

STREAM = "alice/first"
ONE, TWO, THREE = (f"{STREAM}/{number}" for number in (1, 2, 3))
DAY = "2026-01-01T00:00"
DAY_MS = 1_767_225_600_000
LEASE_MS = 3_000


def event(sequence: int, kind: EventType, item: str | None = None, **data: str | int) -> Event:
    """Each event is a second after the one before."""
    return Event(
        id=f"7-{sequence}",
        source=f"/streams/{STREAM}",
        type=TYPE_PREFIX + kind.value,
        time=f"{DAY}:{sequence:02}.000Z",
        sequence=f"{sequence:020}",
        data=dict(data),
        subject=item,
    )


def call(act: str, at_s: float, sent: Facts, got: Facts | None = None, outcome: str = DONE) -> Call:
    """A call that was answered within half a second."""
    return Call(
        who="somebody",
        act=act,
        sent_ns=int(at_s * 1e9),
        sent_wall_ms=DAY_MS + int(at_s * 1e3),
        sent=sent,
        outcome=outcome,
        answered_ns=int((at_s + 0.5) * 1e9),
        got=got or {},
    )


def digest(content: str) -> str:
    return f"sha256:{content * 64}"


def output(content: str) -> OutputFile:
    return OutputFile(name="out", size_bytes=1, digest=digest(content), url="https://results.example/out")


def view(item: str, state: ItemState, mark: str, **more: Any) -> ItemView:
    return ItemView(item=item, state=state, revision=1, pushed_at=f"{DAY}:01Z", params={"mark": mark}, **more)


def told(item: str, dispatch: str, fence: int, **more: str | int) -> Facts:
    return {"item": item, "dispatch": dispatch, "fence": fence, **more}


def good() -> Evidence:
    """Item 1 expires once and is done by its second vm, item 2 fails once and is held, item 3 is cancelled."""
    E = EventType  # noqa: N806 # a table of events reads better with a short name
    events = [
        event(1, E.STREAM_CREATED),
        event(2, E.ITEMS_PUSHED, first=1, last=3),
        event(3, E.ITEM_DISPATCHED, ONE, state="dispatched", dispatch="d1", fence=1, boots=1),
        event(4, E.ITEM_CLAIMED, ONE, state="running", dispatch="d1", fence=1),
        event(5, E.VM_CLAIMED, ONE, dispatch="d1", phase="claimed", fence=1),
        event(9, E.ITEM_GIVEN_BACK, ONE, state="ready", was="running", act="expire", dispatch="d1", fence=1),
        event(10, E.ITEM_DISPATCHED, ONE, state="dispatched", dispatch="d2", fence=2, boots=2),
        event(11, E.ITEM_CLAIMED, ONE, state="running", dispatch="d2", fence=2),
        event(12, E.ITEM_DISPATCHED, TWO, state="dispatched", dispatch="d3", fence=1, boots=1),
        event(13, E.ITEM_CLAIMED, TWO, state="running", dispatch="d3", fence=1),
        event(14, E.ITEM_COMPLETED, ONE, state="done", dispatch="d2", fence=2, is_late=0),
        event(15, E.ITEM_HELD, TWO, state="held", was="running", act="fail", dispatch="d3", fence=1),
        event(16, E.ITEM_CANCELLED, THREE, state="cancelled", was="ready", fence=1),
    ]
    calls = [
        call("push", 1, {"key": "k", "stream": STREAM, "marks": "a b c"}, {"first": 1, "last": 3, "repeated": 0}),
        call("push", 2, {"key": "k", "stream": STREAM, "marks": "a b c"}, {"first": 1, "last": 3, "repeated": 1}),
        call("dispatch", 2.5, {"key": "x"}, told(ONE, "d1", 1)),
        call("claim", 4, told(ONE, "d1", 1)),
        call("extend", 5, told(ONE, "d1", 1), {"instruction": "continue"}),
        call("dispatch", 10, {"key": "y"}, told(ONE, "d2", 2)),
        call("dispatch", 10.2, {"key": "y"}, told(ONE, "d2", 2)),
        call("dispatch", 10.4, {"key": "none"}),
        call("claim", 10.8, told(ONE, "d2", 2)),
        call("extend", 11, told(ONE, "d1", 1), {"code": "lease_lost"}, REFUSED),
        call("complete", 11.5, told(ONE, "d1", 1, digest=digest("0")), {"code": "lease_lost"}, REFUSED),
        call("dispatch", 11.6, {"key": "z"}, told(TWO, "d3", 1)),
        call("claim", 12.5, told(TWO, "d3", 1)),
        call("complete", 13.5, told(ONE, "d2", 2, digest=digest("1"))),
        call("fail", 14.5, told(TWO, "d3", 1), {"state": "held"}),
        call("cancel", 15.5, {"item": THREE}),
        call("cancel", 16, {"item": ONE}, {"code": "settled"}, REFUSED),
    ]
    items = [
        view(ONE, ItemState.DONE, "a", boots=2, outputs=[output("1")]),
        view(TWO, ItemState.HELD, "b", boots=1, attempts=1),
        view(THREE, ItemState.CANCELLED, "c"),
    ]
    stream = StreamEvidence(
        stream=STREAM,
        counts={"ready": 0, "done": 1, "held": 1, "cancelled": 1},
        items=items,
        events=[in_place(place, each) for place, each in enumerate(events, start=1)],
        results=[ResultLine(item=ONE, state=ItemState.DONE, outputs=[output("1")])],
    )
    return Evidence(calls=calls, streams=[stream], retry=Retry(attempts=1, boots=2), lease_ms=LEASE_MS)


def in_place(place: int, each: Event) -> Event:
    """Number an event by its place; its time stays."""
    return msgspec.structs.replace(each, id=f"7-{place}", sequence=f"{place:020}")


Plant = Callable[[StreamEvidence, list[Call]], dict[str, Any]]
"""From the good stream and calls to what is different about the stream; calls are changed in place."""


def planted(plant: Plant) -> set[FaultKind]:
    evidence = good()
    calls = list(evidence.calls)
    stream = msgspec.structs.replace(evidence.streams[0], **plant(evidence.streams[0], calls))
    faults = check(msgspec.structs.replace(evidence, calls=calls, streams=[stream]))
    assert all(fault.subject and fault.sentence for fault in faults)
    return {fault.kind for fault in faults}


def with_events(stream: StreamEvidence, change: Callable[[list[Event]], None]) -> dict[str, Any]:
    """Change the log, and number it anew: its sequence is not what is wrong."""
    events = list(stream.events)
    change(events)
    return {"events": [in_place(place, each) for place, each in enumerate(events, start=1)]}


def without(stream: StreamEvidence, place: int) -> dict[str, Any]:
    """Leave out the event at a place (from 1)."""
    return with_events(stream, lambda events: events.remove(events[place - 1]))


def with_data(stream: StreamEvidence, place: int, **data: str | int) -> dict[str, Any]:
    """Change what the event at a place (from 1) says."""

    def change(events: list[Event]) -> None:
        old = events[place - 1]
        events[place - 1] = msgspec.structs.replace(old, data=old.data | data)

    return with_events(stream, change)


def with_item(stream: StreamEvidence, number: int, **more: Any) -> dict[str, Any]:
    items = list(stream.items)
    items[number - 1] = msgspec.structs.replace(items[number - 1], **more)
    return {"items": items}

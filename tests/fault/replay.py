"""Replays a stream's event log: what it says of each item's life, held against the table of the lifecycle."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from broker.domain.lifecycle import ACTS, Act
from broker.wire.events import Event, EventType
from broker.wire.states import ItemState
from tests.fault.evidence import Fault, FaultKind

_ACT_OF = {
    EventType.ITEM_READY: Act.PROMOTE,
    EventType.ITEM_DISPATCHED: Act.DISPATCH,
    EventType.ITEM_CLAIMED: Act.CLAIM,
    EventType.ITEM_COMPLETED: Act.COMPLETE,
    EventType.ITEM_CANCELLED: Act.CANCEL,
}
"""Kinds of events that one act alone makes; the others name theirs, or may be any act that makes such a move."""
_REVOKE = "revoke"
"""How a give back names itself that the broker made because a ticket came twice."""
_GIVEN = frozenset({ItemState.DISPATCHED, ItemState.RUNNING})


@dataclass
class Life:
    """What the events say of one item so far."""

    state: ItemState | None = None
    dispatch: str | None = None
    """The current one, or the last."""
    fence: int = 0
    boots: int = 0
    delayed: int = 0
    held: int = 0
    completions: list[int] = field(default_factory=list)
    """The fences of its completions."""
    ends: dict[str, Event] = field(default_factory=dict)
    """By dispatch, the event that took the item from it."""


@dataclass
class Replay:
    """The lives of a stream's items, and what is wrong with them."""

    stream: str
    lives: dict[str, Life] = field(default_factory=dict)
    pushed: list[tuple[int, int]] = field(default_factory=list)
    """First and last number of each accepted push."""
    faults: list[Fault] = field(default_factory=list)
    phases: set[tuple[str, str]] = field(default_factory=set)
    """What was told of each dispatch's vm."""

    def blame(self, kind: FaultKind, event: Event, sentence: str) -> None:
        subject = event.subject or self.stream
        self.faults.append(Fault(kind, subject, f"{sentence} (event {event.sequence.lstrip('0')}, {event.type})"))


def replay(stream: str, events: list[Event]) -> Replay:
    """Return what a whole log says."""
    seen = Replay(stream)
    seen.faults += _sequence_faults(stream, events)
    for event in events:
        if event.kind is EventType.ITEMS_PUSHED:
            _push(seen, event)
        elif event.subject is not None and "state" in event.data:
            _move(seen, event)
        elif "phase" in event.data:
            _tell(seen, event)
    return seen


def _sequence_faults(stream: str, events: list[Event]) -> Iterator[Fault]:
    """The sequence has no gap; the epoch is a later one after a restart of the store, and never an earlier one."""
    latest = 0
    for place, event in enumerate(events, start=1):
        epoch = int(event.id.partition("-")[0])
        if int(event.sequence) != place:
            yield Fault(FaultKind.SEQUENCE, stream, f"event {place} has the sequence {event.sequence}")
            return
        if event.id != f"{epoch}-{place}" or epoch < latest:
            yield Fault(FaultKind.SEQUENCE, stream, f"event {place}, after epoch {latest}, has the id {event.id}")
        latest = epoch
        if event.time < events[max(0, place - 2)].time:
            yield Fault(FaultKind.SEQUENCE, stream, f"event {place} is older than the one before it")


def _push(seen: Replay, event: Event) -> None:
    first, last = _number(event, "first"), _number(event, "last")
    seen.pushed.append((first, last))
    for number in range(first, last + 1):
        name = f"{seen.stream}/{number}"
        if name in seen.lives:
            seen.blame(FaultKind.DOUBLED, event, f"item {number} was pushed before")
        seen.lives[name] = Life(ItemState.READY)


def _move(seen: Replay, event: Event) -> None:
    assert isinstance(event.subject, str)
    life = seen.lives.setdefault(event.subject, Life())
    to = ItemState(str(event.data["state"]))
    _check_move(seen, event, life, to)
    _check_whose(seen, event, life)
    _note(seen, event, life)
    life.state = to


def _tell(seen: Replay, event: Event) -> None:
    told = str(event.data["dispatch"]), str(event.data["phase"])
    if told in seen.phases:
        seen.blame(FaultKind.DOUBLED, event, f"phase {told[1]} of dispatch {told[0]} was told before")
    seen.phases.add(told)


def _check_move(seen: Replay, event: Event, life: Life, to: ItemState) -> None:
    was = event.data.get("was")
    if was is not None and was != life.state:
        seen.blame(FaultKind.LIFECYCLE, event, f"it is said to come from {was}, and was {life.state}")
    if event.kind is EventType.ITEM_DISPATCHED and life.state in _GIVEN:
        seen.blame(FaultKind.OVERLAP, event, f"dispatched while dispatch {life.dispatch} was {life.state}")
    elif not any(to in ACTS[act].transitions.get(life.state, ()) for act in _acts_of(event)):
        seen.blame(FaultKind.LIFECYCLE, event, f"no act moves it from {life.state} to {to}")


def _acts_of(event: Event) -> list[Act]:
    said = event.data.get("act")
    if event.kind in _ACT_OF:
        return [_ACT_OF[event.kind]]
    if said == _REVOKE:
        return [Act.GIVE_BACK]
    return list(Act) if said is None else [act for act in Act if act == said]


def _check_whose(seen: Replay, event: Event, life: Life) -> None:
    """An item is moved by its own dispatch alone: the current one, or for a late result the last."""
    dispatch, fence = event.data.get("dispatch"), event.data.get("fence")
    if event.kind is EventType.ITEM_DISPATCHED:
        if int(fence or 0) <= life.fence:
            seen.blame(FaultKind.FENCE, event, f"fence {fence} follows {life.fence}")
    elif event.kind is EventType.ITEM_CANCELLED:
        if int(fence or 0) <= life.fence:
            seen.blame(FaultKind.FENCE, event, f"the cancel left the fence at {fence}, it was {life.fence}")
    elif dispatch is not None and (dispatch, fence) != (life.dispatch, life.fence):
        seen.blame(FaultKind.OVERLAP, event, f"dispatch {dispatch} with fence {fence} moved an item of {life.dispatch}")


def _note(seen: Replay, event: Event, life: Life) -> None:
    match event.kind:
        case EventType.ITEM_DISPATCHED:
            life.dispatch, life.fence = str(event.data["dispatch"]), _number(event, "fence")
            life.boots += 1
            if event.data["boots"] != life.boots:
                seen.blame(FaultKind.COUNTERS, event, f"boot {event.data['boots']} is number {life.boots}")
            return
        case EventType.ITEM_COMPLETED:
            life.completions.append(_number(event, "fence"))
            if len(life.completions) > 1:
                seen.blame(FaultKind.DOUBLED, event, f"completed with the fences {life.completions}")
        case EventType.ITEM_CANCELLED:
            life.fence = _number(event, "fence")
        case EventType.ITEM_DELAYED:
            life.delayed += 1
        case EventType.ITEM_HELD:
            life.held += 1
    if life.state in _GIVEN and event.kind is not EventType.ITEM_CLAIMED and life.dispatch is not None:
        life.ends[life.dispatch] = event


def _number(event: Event, name: str) -> int:
    return int(event.data[name] or 0)

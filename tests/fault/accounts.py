"""Holds what processes were told against what is there in the end."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime

from broker.domain.lifecycle import Act
from broker.wire.items import ItemView
from broker.wire.states import SETTLED, Instruction, ItemState
from broker.wire.streams import Retry
from tests.fault.evidence import Evidence, Fault, FaultKind, StreamEvidence
from tests.fault.history import REFUSED, Call
from tests.fault.plan import MARK
from tests.fault.replay import Life, Replay

CLOCK_SLACK_MS = 20
"""Two readings of one clock, each cut to whole milliseconds, and what a system may slew it in a lease."""


def push_faults(evidence: Evidence) -> Iterator[Fault]:
    """Every acknowledged push is there once, as it was sent."""
    items = _items(evidence)
    marks = Counter(item.params[MARK] for item in items.values())
    for mark, times in marks.items():
        if times > 1:
            yield Fault(FaultKind.DOUBLED, mark, f"{times} items of one push have this mark")
    answers: dict[str, tuple[str, int, int]] = {}
    for call in _accepted(evidence, "push"):
        key, first, last = str(call.sent["key"]), int(call.got["first"]), int(call.got["last"])
        said = str(call.sent["stream"]), first, last
        if answers.setdefault(key, said) != said:
            yield Fault(FaultKind.DOUBLED, key, f"the push was answered {answers[key]} and {said}")
        for number, mark in zip(range(first, last + 1), str(call.sent["marks"]).split(), strict=True):
            item = items.get(f"{said[0]}/{number}")
            if item is None or item.params.get(MARK) != mark:
                yield Fault(
                    FaultKind.LOST, f"{said[0]}/{number}", f"pushed as {mark} and acknowledged, it is not there"
                )


def result_faults(evidence: Evidence) -> Iterator[Fault]:
    """Every accepted result is its item's, the only one, and the one that the results list."""
    items, sent = _items(evidence), defaultdict(set)
    for call in evidence.calls:
        if call.act == "complete":
            sent[str(call.sent["item"])].add(str(call.sent["digest"]))
    accepted: dict[str, set[tuple[int, str]]] = defaultdict(set)
    for call in _accepted(evidence, "complete"):
        name = str(call.sent["item"])
        accepted[name].add((int(call.sent["fence"]), str(call.sent["digest"])))
        item = items.get(name)
        if item is None or _digest(item) != call.sent["digest"]:
            yield Fault(FaultKind.LOST, name, f"the result of fence {call.sent['fence']} was accepted, it is not there")
    for name, results in accepted.items():
        if len(results) > 1:
            yield Fault(FaultKind.DOUBLED, name, f"several results were accepted: {sorted(results)}")
    listed = {line.item: line for stream in evidence.streams for line in stream.results}
    for name, item in items.items():
        if item.state is ItemState.DONE and _digest(item) not in sent[name]:
            yield Fault(FaultKind.LOST, name, "its result is none that a guest sent")
        if item.state is ItemState.DONE and (name not in listed or listed[name].outputs != item.outputs):
            yield Fault(FaultKind.LOST, name, "its result is not among the stream's results")


def failure_faults(evidence: Evidence, replays: list[Replay]) -> Iterator[Fault]:
    """A failure, or a give back, that was accepted is what ended its dispatch."""
    lives = dict(_lives(replays))
    for call in _accepted(evidence, "fail"):
        name, dispatch = str(call.sent["item"]), str(call.sent["dispatch"])
        event = lives.get(name, Life()).ends.get(dispatch)
        if event is None or event.data.get("act") not in {Act.FAIL, Act.GIVE_BACK}:
            yield Fault(FaultKind.LOST, name, f"the failure of dispatch {dispatch} was accepted, and did not end it")


def cancel_faults(evidence: Evidence) -> Iterator[Fault]:
    """A cancel that was accepted stands, and one that was refused came after the result."""
    items = _items(evidence)
    for call in evidence.calls:
        if call.act != "cancel":
            continue
        name = str(call.sent["item"])
        state = items[name].state if name in items else None
        if call.is_accepted and state is not ItemState.CANCELLED:
            yield Fault(FaultKind.LOST, name, f"its cancel was accepted, it is {state}")
        if call.outcome == REFUSED and call.got["code"] == "settled" and state is not ItemState.DONE:
            yield Fault(FaultKind.LOST, name, f"its cancel was refused as settled, it is {state}")


def lease_faults(evidence: Evidence) -> Iterator[Fault]:
    """A dispatch has one fence and one item, and once somebody was given the item, nobody before may go on."""
    given: dict[str, tuple[str, int]] = {}
    since_ns: dict[str, dict[int, int]] = defaultdict(dict)
    for call in _accepted(evidence, "dispatch"):
        if "dispatch" not in call.got:
            continue
        said = str(call.got["item"]), int(call.got["fence"])
        if given.setdefault(str(call.got["dispatch"]), said) != said:
            yield Fault(FaultKind.FENCE, said[0], f"dispatch {call.got['dispatch']} was given out as two")
        assert call.answered_ns is not None
        known_ns = since_ns[said[0]].setdefault(said[1], call.answered_ns)
        since_ns[said[0]][said[1]] = min(known_ns, call.answered_ns)
    for said, times in Counter(given.values()).items():
        if times > 1:
            yield Fault(FaultKind.FENCE, said[0], f"{times} dispatches have the fence {said[1]}")
    for call in _kept_leases(evidence):
        name, fence = str(call.sent["item"]), int(call.sent["fence"])
        later = [other for other, at_ns in since_ns[name].items() if other > fence and at_ns < call.sent_ns]
        if later:
            sentence = f"{call.act} with fence {fence} was accepted after fence {min(later)} had been given out"
            yield Fault(FaultKind.OVERLAP, name, sentence)


def expiry_faults(evidence: Evidence, replays: list[Replay]) -> Iterator[Fault]:
    """No lease ended for silence sooner than a lease after its guest was last heard."""
    heard_ms: dict[tuple[str, str], int] = {}
    for call in _kept_leases(evidence):
        whose = str(call.sent["item"]), str(call.sent["dispatch"])
        heard_ms[whose] = max(heard_ms.get(whose, 0), call.sent_wall_ms)
    for name, life in _lives(replays):
        for dispatch, event in life.ends.items():
            if event.data.get("act") != Act.EXPIRE or (name, dispatch) not in heard_ms:
                continue
            silent_ms = round(datetime.fromisoformat(event.time).timestamp() * 1_000) - heard_ms[name, dispatch]
            if silent_ms < evidence.lease_ms - CLOCK_SLACK_MS:
                yield Fault(
                    FaultKind.EXPIRED_EARLY, name, f"dispatch {dispatch} expired {silent_ms} ms after its guest"
                )


def counter_faults(stream: StreamEvidence, replayed: Replay, retry: Retry) -> Iterator[Fault]:
    """Counts, items and events say the same, and no counter is past its bound."""
    tally = Counter(item.state for item in stream.items)
    counts = {state: number for state, number in stream.counts.items() if number}
    if counts != dict(tally):
        yield Fault(FaultKind.COUNTERS, stream.stream, f"it counts {counts}, its items are {dict(tally)}")
    pushed = sum(last - first + 1 for first, last in replayed.pushed)
    if sum(stream.counts.values()) != pushed:
        sentence = f"it counts {sum(stream.counts.values())} items, {pushed} were pushed"
        yield Fault(FaultKind.COUNTERS, stream.stream, sentence)
    for item in stream.items:
        life = replayed.lives.get(item.item, Life())
        if item.state != life.state:
            yield Fault(FaultKind.COUNTERS, item.item, f"it is {item.state}, by its events {life.state}")
        if item.boots != life.boots or item.boots > retry.boots:
            yield Fault(FaultKind.COUNTERS, item.item, f"{item.boots} boots, by its events {life.boots}")
        # Of a held item the events do not say whether its last attempt counted.
        if not life.delayed <= item.attempts <= min(life.delayed + life.held, retry.attempts):
            sentence = f"{item.attempts} attempts, by its events {life.delayed} and {life.held} holds"
            yield Fault(FaultKind.COUNTERS, item.item, sentence)


def end_faults(stream: StreamEvidence) -> Iterator[Fault]:
    """Every item is settled."""
    for item in stream.items:
        if item.state not in SETTLED:
            yield Fault(FaultKind.UNSETTLED, item.item, f"in the end it is {item.state}")


def _accepted(evidence: Evidence, act: str) -> Iterator[Call]:
    return (call for call in evidence.calls if call.act == act and call.is_accepted)


def _kept_leases(evidence: Evidence) -> Iterator[Call]:
    """Yield the calls that told a guest: the item is yours, go on."""
    yield from _accepted(evidence, "claim")
    yield from (call for call in _accepted(evidence, "extend") if call.got["instruction"] == Instruction.CONTINUE)


def _items(evidence: Evidence) -> dict[str, ItemView]:
    return {item.item: item for stream in evidence.streams for item in stream.items}


def _lives(replays: list[Replay]) -> Iterator[tuple[str, Life]]:
    for replayed in replays:
        yield from replayed.lives.items()


def _digest(item: ItemView) -> str | None:
    return item.outputs[0].digest if item.outputs else None

"""Conversations: guests that work through a queue, a researcher that pushes, launchers that wait."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from bench.broker.calls import MOST, Calls, check, lease_of, tickets_of, url_of
from bench.broker.drive import Pause, Talk
from bench.failing import BenchFailed
from broker.wire.dispatches import MAX_WAIT_MS

_LOOK_S = 0.001
_BETWEEN_S = 0.01
_WOKEN_S = 30.0
_RETRY_S = 2.0
_AWAY = 503


@dataclass
class Work:
    """How many items are still to be taken, and how many were brought to their end."""

    left: int
    done: int = 0


@dataclass
class Taken:
    """What parked launchers were given: how often, and when the last time."""

    count: int = 0
    at_s: float = 0.0
    refused: int = 0
    """Offers that were answered 503, and made again."""
    turns: list[list[float]] = field(default_factory=list)
    """Of each turn, the seconds from each push to the answer of the launcher that it woke."""


@dataclass
class Turn:
    """Whose turn it is: servers take turns in being pushed to."""

    number: int = 0


def guest(calls: Calls, name: str, work: Work) -> Talk:
    """Take items and bring each to its end: one dispatch for `MOST` of them, then a claim and a completion each."""
    while work.left > 0:
        wanted = min(MOST, work.left)
        work.left -= wanted
        tickets = tickets_of((yield calls.dispatch(name, most=wanted)))
        if not tickets:
            raise BenchFailed("the queue was empty before the work was done")
        work.left += wanted - len(tickets)
        for ticket in tickets:
            lease = lease_of((yield calls.claim(ticket)))
            check((yield calls.complete(lease)))
            work.done += 1


def filler(calls: Calls, chunks: Iterator[list[str]]) -> Talk:
    """Push chunk after chunk; several fillers may share one iterator."""
    for urls in chunks:
        check((yield calls.push(urls)))


def parked(calls: Calls, name: str, taken: Taken, *, opens_in_s: float) -> Talk:
    """Wait for an item for ever, in one long poll after another; what comes is brought to its end at once."""
    yield Pause(opens_in_s)
    while True:
        answer = yield calls.dispatch(name, wait_ms=MAX_WAIT_MS)
        if answer.status == _AWAY:
            taken.refused += 1
            yield Pause(_RETRY_S)
            continue
        for ticket in tickets_of(answer):
            taken.at_s = answer.at_s
            lease = lease_of((yield calls.claim(ticket)))
            check((yield calls.complete(lease)))
            taken.count += 1


def pusher(calls: Calls, taken: Taken, turn: Turn, turns: Sequence[int], *, unmeasured: int, measured: int) -> Talk:
    """Push in the given turns: one item at a time, the next one when the last one's launcher waits again."""
    for mine in turns:
        while turn.number != mine:
            yield Pause(_BETWEEN_S)
        waits: list[float] = []
        for _ in range(unmeasured + measured):
            before, begun_s = taken.count, time.perf_counter()
            check((yield calls.push([url_of(0)])))
            while taken.count == before:
                if time.perf_counter() - begun_s > _WOKEN_S:
                    raise BenchFailed(f"no launcher was given an item within {_WOKEN_S:g} s of its push")
                yield Pause(_LOOK_S)
            waits.append(taken.at_s - begun_s)
            yield Pause(_BETWEEN_S)
        taken.turns.append(waits[unmeasured:])
        turn.number += 1


def director(turn: Turn, turns: int, *, begins_in_s: float, look: Callable[[], None], watch_s: float) -> Talk:
    """Let the turns begin; after the last one look, and look again after a while in which nothing comes."""
    yield Pause(begins_in_s)
    turn.number = 1
    while turn.number <= turns:
        yield Pause(_BETWEEN_S)
    look()
    yield Pause(watch_s)
    look()

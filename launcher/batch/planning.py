"""How many launcher jobs to ask for, and which to take away: from what is ready, what is there, and the limits.

The rules are those by which glideinWMS keeps pilots in step with jobs, and for its reasons. What is asked for now
arrives minutes or hours later, so only a third of what is missing is asked for at a time: the next look corrects it.
Half of that beyond the soft limit, nothing at the hard one. Queued jobs that nothing is ready for are taken away once
two looks in a row found them too many; launchers that run and find nothing end by themselves.

Pure: no clock, no I/O. Source: glideinWMS, frontend documentation, "Glidein requests", "max_idle, curb"; ADR 10.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

ASKED_AT_A_TIME: Final = 3
"""One job in so many of those that are missing is asked for."""
LOOKS_BEFORE_REMOVAL: Final = 2
FAILURES_IN_A_ROW: Final = 3
"""After so many jobs of a kind that failed, one at a time is tried until one does well."""


class Kind(NamedTuple):
    """Jobs that are the same: for one user's items, with one size."""

    user: str
    shape: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Over all kinds.

    Attributes:
        hard: most jobs, queued and running.
        soft: beyond so many, half is asked for.
        queued: most jobs that wait in the batch system.
    """

    hard: int
    soft: int
    queued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known of one kind.

    Attributes:
        ready: items that are ready.
        vms: how many of them one job's launcher runs at a time.
        queued: ids of its jobs in the batch system that wait, the newest last.
        unresolved: jobs that were asked for with no answer: they may be there.
        starting: jobs that began to run a while ago at most, whose launcher was not heard of yet.
        silent: jobs that have run for longer, whose launcher is not heard of: their node may be lost.
        idle: vms that its launchers that are there could run now.
        elsewhere: vms that launchers of others, which serve the user, could run now.
        running: its jobs that run, whatever their launchers do.
        failures: how many of its jobs failed one after the other, lately.
        too_many: looks in a row that found more than is needed.
    """

    ready: int
    vms: int = 1
    queued: tuple[str, ...] = ()
    unresolved: int = 0
    starting: int = 0
    silent: int = 0
    idle: int = 0
    elsewhere: int = 0
    running: int = 0
    failures: int = 0
    too_many: int = 0


@dataclass(slots=True)
class Decision:
    """What is done about one kind, and why, in one sentence."""

    ask: int = 0
    remove: tuple[str, ...] = ()
    too_many: int = 0
    missing: int = 0
    sentence: str = ""
    words: list[str] = field(default_factory=list)


def plan(situations: Mapping[Kind, Situation], limits: Limits) -> dict[Kind, Decision]:
    """Decide for every kind, in the order given: who comes first is served first where the limits are close."""
    decisions = {kind: _wish(situation) for kind, situation in situations.items()}
    total = sum(len(each.queued) + each.unresolved + each.running for each in situations.values())
    queued = sum(len(each.queued) + each.unresolved for each in situations.values())
    is_curbed = total >= limits.soft
    for decision in decisions.values():
        if is_curbed and decision.ask:
            decision.words.append(f"half of that beyond the soft limit ({total} of {limits.soft})")
            # Rounded up, or whoever misses one only would wait for ever beside a busy neighbour.
            decision.ask = -(-decision.ask // 2)
    granted = _share(
        [decision.ask for decision in decisions.values()], min(limits.hard - total, limits.queued - queued)
    )
    for decision, ask in zip(decisions.values(), granted, strict=True):
        if ask < decision.ask:
            bound = f"{total} of {limits.hard} jobs are there, {queued} of {limits.queued} that may wait"
            decision.words.append(f"{ask} by the limits ({bound})")
        decision.ask = ask
    for kind, decision in decisions.items():
        decision.sentence = _sentence(situations[kind], decision)
    return decisions


def _wish(situation: Situation) -> Decision:
    decision = Decision()
    coming = len(situation.queued) + situation.unresolved + situation.starting
    missing = situation.ready - situation.idle - situation.elsewhere - coming * situation.vms
    if missing > 0:
        decision.missing = -(-missing // situation.vms)
        decision.ask = -(-decision.missing // ASKED_AT_A_TIME)
        decision.words.append(f"{decision.missing} missing, a third is {decision.ask}")
        if situation.failures >= FAILURES_IN_A_ROW and decision.ask:
            decision.ask = 0 if coming else 1
            decision.words.append(f"one at a time, since {situation.failures} failed in a row")
    elif missing < 0 and situation.queued:
        surplus = min(-missing // situation.vms, len(situation.queued))
        if surplus:
            decision.too_many = situation.too_many + 1
            decision.words.append(f"{surplus} more than needed")
            if decision.too_many >= LOOKS_BEFORE_REMOVAL:
                decision.remove = situation.queued[-surplus:]
                decision.too_many = 0
    return decision


def _share(asked: Sequence[int], room: int) -> list[int]:
    """Divide the room: one each in turn, so that a first one with many takes nothing from the next."""
    granted = [0] * len(asked)
    room = max(0, room)
    while room:
        wanting = [index for index, ask in enumerate(asked) if granted[index] < ask]
        if not wanting:
            break
        each = max(1, room // len(wanting))
        for index in wanting:
            given = min(each, asked[index] - granted[index], room)
            granted[index] += given
            room -= given
    return granted


def _sentence(situation: Situation, decision: Decision) -> str:
    counts = {
        "queued": len(situation.queued),
        "asked for and not answered": situation.unresolved,
        "starting": situation.starting,
        "running unheard of": situation.silent,
        "with room": situation.idle,
        "vms' room on others": situation.elsewhere,
    }
    there = ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no job for them"
    parts = [f"{situation.ready} ready, {there}", *decision.words]
    if decision.ask:
        parts.append(f"asks for {decision.ask}")
    if decision.remove:
        parts.append(f"takes {len(decision.remove)} away")
    return "; ".join(parts)

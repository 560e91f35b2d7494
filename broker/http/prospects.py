"""Why a ready item is not given out: what the store knows, and what launchers offer to any process of the broker.

The first of the reasons that holds is told.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from broker.domain.canary import CANARIES
from broker.domain.secrets import is_trusted, untrusted
from broker.http.call import Services
from broker.http.launcher_jobs import serves as would_serve
from broker.http.launcher_tally import Standing, Tally, lacking, unmet
from broker.http.offers import larger
from broker.http.presence import serves
from broker.http.queued_launchers import awaited
from broker.http.roll_call import Offered
from broker.store import KnownJobs, KnownLauncher, Prospect
from broker.wire.dispatches import Room
from broker.wire.items import ItemView, Reason
from broker.wire.launchers import Health
from broker.wire.names import parse_item
from broker.wire.states import HealthState, ItemState
from broker.wire.streams import BulkAct, StreamSpec, StreamView

MAX_REPORTS = 500
"""What so many launchers told of themselves is looked at."""
_WORDS = {
    HealthState.BACKING_OFF: "backing off",
    HealthState.EXCLUDED: "excluded",
    HealthState.DRAINING: "draining",
}
"""States in which a launcher asks for nothing."""
_NOBODY_HEARD = frozenset({"no_launcher", "not_served"})
"""Reasons by which no launcher that serves the user is there."""
_MORE_MAY_COME = frozenset({"not_served", "nodes_not_well", "launchers_busy", "needs_unmet"})
"""Reasons that other launchers may mend."""
_OF_LAUNCHERS = frozenset({"launchers_busy", "needs_unmet"})
"""Reasons that are told by counting launchers, where they are of several kinds."""


@dataclass(frozen=True, slots=True)
class Waits:
    """What a ready item waits for, and how the launchers that are there stand to it: how many of each kind."""

    reason: Reason | None = None
    launchers: dict[str, int] = field(default_factory=dict)


async def waits_for(services: Services, item: ItemView) -> Reason:
    """Return what a ready item waits for."""
    reason = (await what_it_waits_for(services, item)).reason
    assert reason is not None, "a ready item waits for something"
    return reason


async def what_it_waits_for(services: Services, item: ItemView) -> Waits:
    """Return what a ready item waits for, and how launchers stand to it."""
    ref = parse_item(item.item, None).stream
    stream = await services.store.get_stream(ref)
    if stream is not None and (of_stream := _of_its_stream(stream)) is not None:
        return Waits(of_stream)
    prospect = await services.store.prospect(ref, item.revision)
    # Without a launcher there is none whose offers would be asked for.
    told = await services.roll_call.offers(ref.user, prospect.launchers) if prospect.launchers else []
    parked = frozenset(each.launcher for each in told if each.is_parked)
    reported = await services.store.reports_of(sorted(prospect.launchers)[:MAX_REPORTS])
    serving = {name: serves(report, ref.user) for name, report in reported.items()}
    serving |= {each.launcher: each.serves for each in told}
    trusted = _trusted(prospect, reported, told)
    there = {
        name: reported[name].view.report.health if name in reported and name not in parked else Health()
        for name in prospect.launchers | parked
        if serving.get(name, True)
    }
    asking = [each for each in told if each.is_parked and each.serves and each.launcher in trusted]
    able = await _with_room_by_token(services, asking)
    waiting = [each.room for each in able]
    jobs = [each for each in await services.store.known_jobs() if would_serve(each, ref.user)]
    of_trusted = [health for name, health in there.items() if name in trusted]
    if asking and not able and prospect.machine is not None:
        asked_for: Reason | None = hold_enough(asking)
    elif there and not of_trusted:
        asked_for = not_trusted(prospect.spec, len(there))
    else:
        asked_for = nobody_asks(ref.user, len(prospect.launchers), of_trusted)
    rooms = largest_of(told, {name: reported[name].view.report.total for name in there if name in reported})
    rooms = {name: room for name, room in rooms.items() if name in trusted}
    reason = reason_of(prospect, waiting, list(rooms.values()), asked_for)
    tally = _tally(prospect, told, rooms, serving, there, trusted) if prospect.machine is not None else None
    if tally is not None and len(tally.counts) > 1 and reason.code in _OF_LAUNCHERS:
        reason = Reason(code=reason.code, sentence=tally.sentence())
    return Waits(with_jobs(reason, jobs), tally.counts if tally is not None else {})


async def _with_room_by_token(services: Services, asking: Sequence[Offered]) -> list[Offered]:
    """Return those whose token lets them hold more than its launchers do now."""
    bounds = {each.bound for each in asking if each.bound is not None}
    if not bounds:
        return list(asking)
    held = await services.store.held_by(sorted({bound.holder for bound in bounds}))
    return [each for each in asking if each.bound is None or held[each.bound.holder] < each.bound.most]


def _trusted(prospect: Prospect, reported: Mapping[str, KnownLauncher], told: Sequence[Offered]) -> frozenset[str]:
    """Return the launchers that the spec trusts with its secrets: of a stream without any, all of them."""
    labels = dict.fromkeys(prospect.launchers, frozenset[str]())
    labels |= {name: report.labels for name, report in reported.items()}
    labels |= {each.launcher: each.labels for each in told}
    return frozenset(name for name, of_token in labels.items() if is_trusted(prospect.spec, of_token))


def _of_its_stream(stream: StreamView) -> Reason | None:
    """Return why nothing of the stream is given out at all, where that is so."""
    if stream.paused is not None:
        remedy = "" if stream.paused.code == "purging" else f"; `broker resume {stream.stream}` lets it give out again"
        return Reason(code="stream_paused", sentence=f"its stream is paused: {stream.paused.sentence}{remedy}")
    bulk = stream.bulk
    if (
        bulk is not None
        and bulk.ended_at is None
        and bulk.act is not BulkAct.RELEASE
        and ItemState.READY in bulk.states
    ):
        done = f"{bulk.looked_at} of {bulk.of} items were looked at so far"
        return Reason(code="bulk_goes_on", sentence=f"a {bulk.act} of its stream by {bulk.by} goes on: {done}")
    return None


def _tally(
    prospect: Prospect,
    told: Sequence[Offered],
    rooms: Mapping[str, Room],
    serving: Mapping[str, bool],
    health: Mapping[str, Health],
    trusted: AbstractSet[str],
) -> Tally:
    """Count the launchers that are there by what stands between them and items of the prospect."""
    assert prospect.machine is not None, "an item whose machine is gone waits for that alone"
    tally = Tally(prospect.spec, prospect.machine)
    free = {each.launcher: each.room for each in told if each.is_parked}
    for name in sorted(prospect.launchers | free.keys()):
        if not serving.get(name, True):
            tally.add(Standing.SERVES_OTHERS)
        elif name not in trusted:
            tally.add(Standing.NOT_TRUSTED)
        elif health[name].state in _WORDS:
            tally.add(Standing.NOT_WELL)
        elif name in free and lacking(prospect.spec, prospect.machine, free[name]) is None:
            tally.add_room(free[name], is_free=True)
        elif name in rooms:
            tally.add_room(rooms[name], is_free=False)
        else:
            tally.add(Standing.NO_ROOM_TOLD)
    return tally


def largest_of(offered: Sequence[Offered], totals: Mapping[str, Room]) -> dict[str, Room]:
    """Return the most that each launcher has that serves: what it told of itself, or offered to any process."""
    rooms = dict(totals)
    for each in offered:
        if each.serves:
            rooms[each.launcher] = larger(rooms.get(each.launcher, each.room), each.room)
    return rooms


def with_jobs(reason: Reason, known: Sequence[KnownJobs]) -> Reason:
    """Return the reason with what is known behind it of launcher jobs that would serve the item's user.

    Where no launcher is there at all, they are the reason.
    """
    jobs = awaited(known, is_heard=reason.code not in _NOBODY_HEARD)
    if jobs is None:
        return reason
    if reason.code == "no_launcher":
        return Reason(code=jobs.code, sentence=f"no launcher has been heard of lately; {jobs.sentence}")
    if reason.code in _MORE_MAY_COME:
        return Reason(code=reason.code, sentence=f"{reason.sentence}; {jobs.sentence}")
    return reason


def hold_enough(asking: Sequence[Offered]) -> Reason:
    """Return why launchers that wait are given nothing: their tokens let them hold no more than they do."""
    most = max(each.bound.most for each in asking if each.bound is not None)
    waits = "1 launcher waits, and its" if len(asking) == 1 else f"{len(asking)} launchers wait, and their"
    sentence = f"{waits} site holds as many items as its token allows (at most {most}): one has to end first"
    return Reason(code="holds_enough", sentence=sentence)


def not_trusted(spec: StreamSpec, number: int) -> Reason:
    """Return why nobody there may have an item whose stream needs secrets."""
    launchers = "1 launcher" if number == 1 else f"{number} launchers"
    return Reason(code="not_trusted", sentence=f"{launchers}: none is {untrusted(spec)}")


def nobody_asks(user: str, present: int, nodes: list[Health]) -> Reason | None:
    """Return why nobody there asks for the user's items, or None when somebody may.

    Args:
        user: whose items wait.
        present: how many launchers are there.
        nodes: the health of each that serves the user, as far as it is known.
    """
    if not present:
        return None
    if not nodes:
        sentence = f"{_launchers(present)} there, none of which serves {user}: ask its site, or run one, `launcher run`"
        return Reason(code="not_served", sentence=sentence)
    away = [health for health in nodes if health.state in _WORDS]
    if len(away) < len(nodes):
        return None
    # Who tries again first, and of those that say no time anyone.
    next_one = min(away, key=lambda health: (health.retry_at is None, health.retry_at or ""))
    whose = "its node is" if len(nodes) == 1 else "none of which asks for items now; the node that may be the first is"
    return Reason(code="nodes_not_well", sentence=f"{_launchers(len(nodes))} there, {whose} {_shown(next_one)}")


def _shown(health: Health) -> str:
    code = f" ({health.code.value})" if health.code is not None else ""
    return f"{_WORDS[health.state]}{code}" + (f" until {health.retry_at}" if health.retry_at else "")


def reason_of(
    prospect: Prospect, waiting: list[Room], largest: list[Room], nobody_asks: Reason | None = None
) -> Reason:
    """Return what items of the prospect wait for.

    Args:
        prospect: what the store knows.
        waiting: the rooms that are offered now.
        largest: the most that each launcher has offered, the busy ones, too.
        nobody_asks: why no launcher there asks for items of the stream's user, where none does.
    """
    machine = prospect.machine
    if machine is None:
        name = prospect.spec.machine
        gone = "is not there, or no longer shared with you" if "/" in name else "is not there: add it again"
        return Reason(code="machine_missing", sentence=f"its machine {name} {gone}")
    if prospect.canaries_out:
        number = {2: "two"}.get(CANARIES, str(CANARIES))
        sentence = f"{number} canaries of this stream are out; more follow when one of them has claimed"
        return Reason(code="canaries_out", sentence=sentence)
    if not prospect.launchers:
        return Reason(code="no_launcher", sentence="no launcher has been heard of lately: start one, `launcher run`")
    if nobody_asks is not None:
        return nobody_asks
    if any(unmet(prospect.spec, machine, room) is None for room in waiting):
        return Reason(code="its_turn_comes", sentence="a launcher with room for it waits: its turn comes in a moment")
    faults = [unmet(prospect.spec, machine, room) for room in largest]
    if not faults or None in faults:
        there = _launchers(len(prospect.launchers))
        return Reason(code="launchers_busy", sentence=f"{there} there, and none that may serve it has room for it now")
    return Reason(
        code="needs_unmet",
        sentence=f"{_launchers(len(faults))} there, none with the room it needs even when idle: it {faults[0]}",
    )


def _launchers(number: int) -> str:
    return "1 launcher is" if number == 1 else f"{number} launchers are"

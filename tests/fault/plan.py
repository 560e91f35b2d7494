"""What is planned: from a seed, how every vm behaves and when the saboteur strikes.

The seed fixes the plan, not the run: real processes race, so the same plan meets another order of things each time.
"""

import random
from enum import StrEnum
from typing import Final, NamedTuple

from broker.wire.items import NewItem
from broker.wire.streams import Output, Retry, StreamSpec

STREAMS: Final = ("first", "second")
RESEARCHERS: Final = 2
LAUNCHERS: Final = 3
VMS_AT_ONCE: Final = 4
"""Of one launcher."""
HEARTBEAT_S: Final = 1
LEASE_S: Final = 3
GRACE_S: Final = 3
STOPPED_S: Final = 2 * LEASE_S
"""How long a zombie sleeps: past its lease."""
CUT_S: Final = 1.5
RETRY: Final = Retry(attempts=3, boots=10, backoff_first_ms=200, backoff_max_ms=1_000)
MARK: Final = "mark"
"""The parameter that names an item from its push to its result."""
_CHUNK_ITEMS: Final = 4
_FIRST_STRIKE_S: Final = 2.0


def spec() -> StreamSpec:
    """Return the spec of both streams. Nobody looks at outputs elsewhere, so no bytes need to travel."""
    to = "https://results.example/{user}/{job}/{item}/{run}/{name}"
    return StreamSpec(machine="m", run="/bin/true", retry=RETRY, output=Output(to=to))


class Behaviour(StrEnum):
    """What a vm does with its item."""

    COMPLETE = "complete"
    FAIL = "fail"
    GIVE_BACK = "give_back"
    NEVER_CLAIM = "never_claim"
    CRASH = "crash"
    """It claims and ends without a word."""
    HANG = "hang"
    """It claims, is silent for longer than its lease, and then delivers a result as if nothing had been."""
    TWINS = "twins"
    """Two guests come with the same ticket, each with a claim key of its own."""
    TWICE = "twice"
    """It delivers its result, and then another one."""


_WEIGHTS: Final = {
    Behaviour.COMPLETE: 52,
    Behaviour.FAIL: 8,
    Behaviour.GIVE_BACK: 7,
    Behaviour.NEVER_CLAIM: 4,
    Behaviour.CRASH: 5,
    Behaviour.HANG: 12,
    Behaviour.TWINS: 6,
    Behaviour.TWICE: 6,
}


def behaviour(seed: int, item: str, fence: int) -> Behaviour:
    """Return how the vm of an item's dispatch with this fence behaves, wherever it runs."""
    chance = random.Random(f"{seed}/{item}/{fence}")
    return chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]


def heartbeats(seed: int, item: str, fence: int) -> int:
    """Return how often that vm extends its lease before it says how it went."""
    return random.Random(f"{seed}/{item}/{fence}/run").randint(0, 2)


class Strike(StrEnum):
    """What the saboteur does to a process, or to the way between all of them and the broker."""

    KILL_BROKER = "kill_broker"
    KILL_STORE = "kill_store"
    KILL_LAUNCHER = "kill_launcher"
    KILL_GUEST = "kill_guest"
    KILL_RESEARCHER = "kill_researcher"
    STOP_LAUNCHER = "stop_launcher"
    STOP_GUEST = "stop_guest"
    CUT = "cut"


_EVERY_S: Final = {
    Strike.KILL_BROKER: 22,
    Strike.KILL_STORE: 22,
    Strike.KILL_LAUNCHER: 12,
    Strike.KILL_GUEST: 5,
    Strike.KILL_RESEARCHER: 11,
    Strike.STOP_LAUNCHER: 16,
    Strike.STOP_GUEST: 4,
    Strike.CUT: 16,
}
"""Each happens about so often, in each such stretch once."""


class Step(NamedTuple):
    """One strike: when, counted from the start, and `whom` it hits, as a fraction of those there are."""

    at_s: float
    strike: Strike
    whom: float


def steps(seed: int, seconds: float) -> list[Step]:
    """Return the saboteur's plan for a run of so many seconds: each strike at least once."""
    chance = random.Random(f"{seed}/steps")
    found = []
    for strike, every_s in _EVERY_S.items():
        stretches = max(1, int(seconds // every_s))
        length_s = (seconds - _FIRST_STRIKE_S) / stretches
        found += [
            Step(_FIRST_STRIKE_S + length_s * (index + chance.random()), strike, chance.random())
            for index in range(stretches)
        ]
    return sorted(found)


def items_of(researcher: int, chunk: int) -> list[NewItem]:
    """Return the items of a researcher's chunk: always the same ones, each with a mark of its own."""
    return [NewItem(params={MARK: f"{researcher}.{chunk}.{index}"}) for index in range(_CHUNK_ITEMS)]


def stream_of(chunk: int) -> str:
    return STREAMS[chunk % len(STREAMS)]


def cancels(seed: int, researcher: int, chunk: int) -> int | None:
    """Return which item of a chunk its researcher cancels a little after the push, if any."""
    chance = random.Random(f"{seed}/{researcher}/{chunk}/cancel")
    return chance.randrange(_CHUNK_ITEMS) if chance.random() < 0.3 else None

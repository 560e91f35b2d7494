"""Thousands of launchers that wait: what they cost, and how soon one of them is woken."""

import statistics
import threading
from collections import Counter
from pathlib import Path

from redis import Redis

from bench.broker.calls import Calls
from bench.broker.drive import Address, Talk, drive_all
from bench.broker.extent import Extent
from bench.broker.ground import PREFIX, Served, floor, served
from bench.broker.talks import Taken, Turn, director, parked, pusher
from bench.failing import BenchFailed
from bench.figures import Figure, median_of, ratio_of
from bench.memory import resident_mib
from broker.store.keys import Keys
from broker.wire.dispatches import MAX_WAIT_MS

_SITES = 5
"""A broker bounds how many launchers one token speaks for."""
_OPENING_S = MAX_WAIT_MS / 1000
"""Opened evenly over one wait, launchers ask anew evenly from then on."""
_SETTLE_S = 5.0
_UNMEASURED = 20
_LIMIT_S = 600
_SHOWN = 6


class Seen:
    """What the store was sent in a while, and what its scripts then called, as its own MONITOR shows it."""

    def __init__(self, store: Redis) -> None:
        self.sent: Counter[str] = Counter()
        self.in_scripts = 0
        self._store = store
        self._is_over = False
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def is_begun(self) -> bool:
        return self._thread.ident is not None

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._is_over = True
        self._store.ping()  # so that there is one more line to see
        self._thread.join(_SETTLE_S)

    def _watch(self) -> None:
        with self._store.monitor() as lines:  # type: ignore[no-untyped-call] # redis-py has no type for it
            for line in lines.listen():
                if self._is_over:
                    return
                if line["client_type"] == "lua":
                    self.in_scripts += 1
                else:
                    self.sent[str(line["command"]).split(" ", 1)[0].lower()] += 1


def measure(folder: Path, extent: Extent) -> list[Figure]:
    """Park launchers at a broker and at the same long poll in memory; push to both in turns, then not for a while."""
    with served(folder / "b") as here, floor("parked", folder / "b") as nothing:
        ours, memory = Taken(), Taken()
        seen, turn, turns = Seen(here.store), Turn(), 2 * extent.rounds
        sites = [here.calls(site) for site in range(_SITES)]

        def talks(address: Address, taken: Taken, first: int) -> list[tuple[Address, Talk]]:
            mine = range(first, turns + 1, 2)
            push = pusher(sites[0], taken, turn, mine, unmeasured=_UNMEASURED, measured=extent.pushes)
            return [(address, talk) for talk in (*_launchers(sites, taken, extent.launchers), push)]

        main = director(
            turn,
            turns,
            begins_in_s=_OPENING_S + _SETTLE_S,
            look=lambda: _look(here, seen, extent.launchers),
            watch_s=extent.watch_s,
        )
        drive_all([*talks(here.address, ours, 1), *talks(nothing, memory, 2)], main=main, limit_s=_LIMIT_S)
        seen.end()
        taken_mib = resident_mib(here.pid)
    return [*_latency(ours, memory, extent), *_quiet(seen, taken_mib, extent)]


def _launchers(sites: list[Calls], taken: Taken, count: int) -> list[Talk]:
    return [
        parked(sites[number % len(sites)], f"l{number}", taken, opens_in_s=_OPENING_S * number / count)
        for number in range(count)
    ]


def _look(here: Served, seen: Seen, launchers: int) -> None:
    heard = here.store.zcard(Keys(PREFIX).launchers)
    if heard < launchers:
        raise BenchFailed(f"only {heard} of {launchers} launchers were heard")
    if not seen.is_begun:
        seen.begin()


def _latency(ours: Taken, memory: Taken, extent: Extent) -> list[Figure]:
    what = f"{extent.launchers} launchers wait; p99 of {extent.pushes} pushes"
    again = f"; {ours.refused} offers were refused and made again" if ours.refused else ""
    p99s, floors = ([percentile(turn, 99) * 1_000 for turn in taken.turns] for taken in (ours, memory))
    return [
        median_of("push to dispatch", "ms", p99s, reference=what + again),
        median_of("  answered from memory", "ms", floors, reference=f"aiohttp, the same long poll; {what}"),
        ratio_of("push to dispatch / from memory", p99s, floors, reference=what, at_most=5, aim=2),
    ]


def _quiet(seen: Seen, taken_mib: float, extent: Extent) -> list[Figure]:
    shown = ", ".join(f"{name} {count / extent.watch_s:.1f}" for name, count in seen.sent.most_common(_SHOWN))
    who = f"{extent.launchers} launchers wait, each asks anew every {MAX_WAIT_MS // 1000} s; nothing comes"
    scripts = f"their scripts call {seen.in_scripts / extent.watch_s:.1f} more"
    return [
        median_of(
            "store commands a second",
            "1/s",
            [sum(seen.sent.values()) / extent.watch_s],
            reference=f"sent to the store; {who}; over {extent.watch_s:g} s: {shown}; {scripts}",
            at_most=5,
            aim=1,
        ),
        median_of("broker's memory", "MiB", [taken_mib], reference=f"resident; {who}", at_most=400),
    ]


def percentile(values: list[float], percent: int) -> float:
    """Return the percentile, between neighbours where none is on it."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]

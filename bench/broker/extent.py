"""How much is measured: everything, or enough to see that it works."""

from typing import NamedTuple


class Extent(NamedTuple):
    rounds: int
    push_items: int
    rq_push_items: int
    beans: int
    cycles: int
    empty_cycles: int
    arq_jobs: int
    rq_jobs: int
    callbacks: int
    few_queued: int
    many_queued: int
    sized_items: int
    launchers: int
    pushes: int
    watch_s: float


FULL = Extent(
    rounds=5,
    push_items=100_000,
    rq_push_items=20_000,
    beans=4_000,
    cycles=4_096,
    empty_cycles=20_000,
    arq_jobs=2_000,
    rq_jobs=500,
    callbacks=1_000,
    few_queued=1_000,
    many_queued=1_000_000,
    sized_items=100_000,
    launchers=5_000,
    pushes=300,
    watch_s=30,
)
QUICK = Extent(
    rounds=2,
    push_items=10_000,
    rq_push_items=5_000,
    beans=1_000,
    cycles=1_024,
    empty_cycles=5_000,
    arq_jobs=500,
    rq_jobs=100,
    callbacks=200,
    few_queued=1_000,
    many_queued=50_000,
    sized_items=10_000,
    launchers=1_000,
    pushes=50,
    watch_s=10,
)

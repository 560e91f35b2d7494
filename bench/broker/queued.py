"""Whether a long queue slows the cycles: two brokers, one with few items and one with many."""

from pathlib import Path

from bench.broker.cycles import GUESTS, rate
from bench.broker.extent import Extent
from bench.broker.ground import served
from bench.figures import Figure, median_of, ratio_of


def measure(folder: Path, extent: Extent) -> list[Figure]:
    """Work on both in turns; before each turn both get as many items as the turn takes out."""
    few: list[float] = []
    many: list[float] = []
    with served(folder / "b") as short, served(folder / "m") as long:
        short.fill(extent.few_queued)
        long.fill(extent.many_queued)
        for here in (short, long):
            here.rest()
        for _ in range(extent.rounds):
            for here, rates in ((short, few), (long, many)):
                here.fill(extent.cycles)
                rates.append(rate(here.address, here.calls(), extent.cycles))
    what = f"{GUESTS} connections; {extent.cycles} items more at each turn's begin, none at its end"
    return [
        median_of(f"cycles with {extent.few_queued} queued", "1/s", few, reference=what),
        median_of(f"  with {extent.many_queued} queued", "1/s", many, reference=what),
        ratio_of(
            "cycles, many queued / few",
            many,
            few,
            reference=f"{extent.many_queued} against {extent.few_queued}",
            at_least=0.8,
            aim=0.95,
        ),
    ]

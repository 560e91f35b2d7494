"""What a queued item takes in the store's memory."""

import random
from collections import Counter
from pathlib import Path

from redis import Redis

from bench.broker.calls import URL_CHARS
from bench.broker.extent import Extent
from bench.broker.ground import PREFIX, served
from bench.figures import Figure, median_of
from broker.store.keys import Keys

_SAMPLE = 500
_ALL_ELEMENTS = 0


def measure(folder: Path, extent: Extent) -> list[Figure]:
    """Push, and look at the store's memory before and after; then at each kind of key."""
    with served(folder / "b") as here:
        before = here.store.info("memory")["used_memory"]
        here.fill(extent.sized_items)
        here.rest()
        taken = (here.store.info("memory")["used_memory"] - before) / extent.sized_items
        kinds = {kind: total / extent.sized_items for kind, total in bytes_by_kind(here.store).items()}
    what = f"INFO memory before and after {extent.sized_items} items with URLs of {URL_CHARS} characters"
    shown = [(kind, each) for kind, each in kinds.items() if each >= 1]
    return [
        median_of("store bytes a queued item", "B", [taken], reference=what, at_most=400, aim=300),
        *(median_of(f"  of it {kind}", "B", [each], reference="MEMORY USAGE") for kind, each in sorted(shown)),
    ]


def bytes_by_kind(store: Redis) -> Counter[str]:
    """Return what the keys of each kind take; of a kind with many keys, a sample is looked at."""
    keys, found = Keys(PREFIX), dict[str, list[str]]()
    for key in store.scan_iter(count=10_000):
        known = keys.kind_of(key)
        found.setdefault(known.name if known is not None else "others", []).append(key)
    taken: Counter[str] = Counter()
    for kind, names in found.items():
        sample = random.Random(0).sample(names, min(_SAMPLE, len(names)))
        sizes = [store.memory_usage(name, samples=_ALL_ELEMENTS) or 0 for name in sample]
        taken[kind] = round(sum(sizes) / len(sizes) * len(names))
    return taken

"""How much is measured: everything, or enough to see that it works."""

from typing import NamedTuple


class Extent(NamedTuple):
    rounds: int
    file_bytes: int
    push_items: int


FULL = Extent(rounds=5, file_bytes=1 << 30, push_items=100_000)
QUICK = Extent(rounds=2, file_bytes=1 << 27, push_items=10_000)

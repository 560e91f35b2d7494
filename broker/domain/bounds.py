"""How much a launcher's token lets its launchers hold at once."""

from typing import NamedTuple


class Bound(NamedTuple):
    """At most so many dispatches at once, of all launchers whose tokens are made of the one with this id."""

    holder: str
    most: int

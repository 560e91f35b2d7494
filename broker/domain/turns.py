"""Turns: the processes of one broker share what one of them has to do now and then.

Time is cut into turns, which go round: each process acts in its own ones alone. So what is to be done a second is done
once a second, however many there are, and nobody has to be chosen: one that hangs or is gone leaves out its own turns,
and the next one goes on a turn later.

The times are those of one machine's monotonic clock, which all its processes see alike.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns of the process at `place`, counted from 0, among `count`."""

    place: int = 0
    count: int = 1

    def is_own(self, now_s: float, turn_s: float) -> bool:
        """Tell whether it is this one's turn, when a turn lasts `turn_s`."""
        return int(now_s // turn_s) % self.count == self.place

    def until_next_s(self, now_s: float, turn_s: float) -> float:
        """Return the time until its next turn begins; of one that goes on already, until the one after it."""
        turn = int(now_s // turn_s)
        ahead = (self.place - turn - 1) % self.count + 1
        return (turn + ahead) * turn_s - now_s

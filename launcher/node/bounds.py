"""What a launcher sets itself: for how long it waits without work, and how many items it takes in all.

Source: glideinWMS, `GLIDEIN_Max_Idle`: a job that has nothing to do makes room for those of others.
"""

from dataclasses import dataclass

from broker.wire.states import HealthCode, Verdict
from launcher.node.verdicts import Ending


@dataclass(frozen=True, slots=True)
class Bounds:
    """None is no bound.

    Attributes:
        idle_s: A launcher that has had no vm for so long ends.
        items: A launcher that has taken so many takes no more.
    """

    idle_s: float | None = None
    items: int | None = None

    def idle_left_s(self, idle_since_s: float | None, now_s: float) -> float | None:
        """Return for how long a launcher may yet go on without work; None while a vm is there, or for ever."""
        if self.idle_s is None or idle_since_s is None:
            return None
        return max(0.0, idle_since_s + self.idle_s - now_s)

    def idle_ending(self) -> Ending:
        """Return what is told of a launcher that has had no work for too long."""
        return _told(f"no item came for {self.idle_s or 0:g} s, and the launcher waits no longer (idle_s)")

    def items_ending(self) -> Ending:
        """Return what is told of a launcher that has taken its last item."""
        return _told(f"the launcher has taken {self.items} items, and takes no more (items)")


def _told(sentence: str) -> Ending:
    return Ending(Verdict.DRAINED, sentence, HealthCode.TOLD_TO_DRAIN)

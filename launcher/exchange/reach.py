"""Whether a way to somewhere is open, told by what was tried on it.

What ends when a way was shut is noticed only after it is open again, so the last cut is remembered.
"""

import time
from collections.abc import Callable
from typing import NamedTuple


class _Cut(NamedTuple):
    began_s: float
    ended_s: float


class Reach:
    """What came of the tries on one way. Tries that say nothing of the way are not noted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shut_since_s: float | None = None
        self._last: _Cut | None = None

    @property
    def is_shut(self) -> bool:
        """Whether the last try failed."""
        return self._shut_since_s is not None

    def worked(self) -> None:
        """Note that the other end answered, whatever it said."""
        if self._shut_since_s is not None:
            self._last = _Cut(self._shut_since_s, self._clock())
        self._shut_since_s = None

    def failed(self) -> None:
        """Note that the other end could not be reached."""
        if self._shut_since_s is None:
            self._shut_since_s = self._clock()

    def cut_s(self, *, within_s: float) -> float:
        """Return how long every try failed, until now or until at most `within_s` ago; 0 when none did."""
        now_s = self._clock()
        if self._shut_since_s is not None:
            return now_s - self._shut_since_s
        if self._last is not None and now_s - self._last.ended_s <= within_s:
            return self._last.ended_s - self._last.began_s
        return 0.0

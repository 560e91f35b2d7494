"""How often callbacks may be tested: each test is a request of the broker's to an address that a user chose.

Servers that hang take places for as long as a test may last: those of all users together have a bound, too, so that the
broker's connections to others (issuers, buckets) are not all taken.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from broker.domain import limits
from broker.domain.errors import Unavailable
from broker.wire.problems import ProblemCode

WITHIN_S = 60.0
MOST_AT_ONCE = 32
_A_LITTLE_S = 5


class CallbackTests:
    """When tests were begun in this process of late, by user, and how many go on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: dict[str, deque[float]] = {}
        self._going_on = 0

    @contextmanager
    def place(self, user: str) -> Iterator[None]:
        """Count a test of the user's, which goes on for the block.

        Raises:
            Unavailable: `too_many_tests`: it is one too many.
        """
        if self._going_on >= MOST_AT_ONCE:
            raise Unavailable(
                ProblemCode.TOO_MANY_TESTS,
                f"{MOST_AT_ONCE} callbacks are being tested already: wait a little",
                retry_after_s=_A_LITTLE_S,
            )
        self._begin(user)
        self._going_on += 1
        try:
            yield
        finally:
            self._going_on -= 1

    def _begin(self, user: str) -> None:
        now_s, most = self._clock(), limits.default("callback_tests")
        self._begun = {each: begun for each, begun in self._begun.items() if begun[-1] > now_s - WITHIN_S}
        begun = self._begun.get(user, deque(maxlen=most))
        if len(begun) == most and begun[0] > now_s - WITHIN_S:
            raise Unavailable(
                ProblemCode.TOO_MANY_TESTS,
                f"{user} tested callbacks {most} times within a minute: wait a little",
                retry_after_s=int(begun[0] + WITHIN_S - now_s) + 1,
            )
        begun.append(now_s)
        self._begun[user] = begun

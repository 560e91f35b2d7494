"""When Python looks for cyclic garbage in a process of the broker.

By Python's own rule, when 700 objects more were made than freed. Where thousands of launchers wait for half a minute
each, as many requests end as come: the difference hardly moves, the youngest generation grows for seconds, and the look
at all of it comes in the middle of somebody's request and takes up to 25 ms. So the youngest is looked at ten times a
second, when it is small. What has lived through that is left alone, for it is mostly what waits, until so much more is
there that much of it may be garbage, or for ten minutes: one look at everything stops the process for 0.1 s and more.
"""

import asyncio
import gc
import os
from collections.abc import Callable
from pathlib import Path

EVERY_S = 0.1
FULL_EVERY_S = 600.0
_GROWN = 1.25
_GROWN_BYTES = 67_108_864
_YOUNG, _OLD = 0, 2
_NEVER = 1_000_000_000
_PYTHONS_OWN = gc.get_threshold()


def resident_bytes() -> int:
    """Return how much memory the process has. Source: proc(5), statm."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Collecting:
    """Looks for garbage; `now_s` is by a clock that never goes back, `memory` tells what the process has."""

    def __init__(self, now_s: float, memory: Callable[[], int] = resident_bytes) -> None:
        self._memory = memory
        self._full_at_s = now_s
        self._had_bytes = 0
        self._look_at_all(now_s)

    def look(self, now_s: float) -> bool:
        """Look at the youngest objects, or, when it is time, at all; tell whether it was at all."""
        is_due = now_s >= self._full_at_s + FULL_EVERY_S
        # What a cycle holds may be large, and no object of Python's: blocks of a file, a body.
        if is_due or self._memory() > self._had_bytes * _GROWN + _GROWN_BYTES:
            self._look_at_all(now_s)
            return True
        gc.collect(_YOUNG)
        return False

    def _look_at_all(self, now_s: float) -> None:
        gc.collect(_OLD)
        self._full_at_s, self._had_bytes = now_s, self._memory()


async def keep_collected() -> None:
    """Look for garbage, for ever, in place of Python itself."""
    clock = asyncio.get_running_loop().time
    collecting = Collecting(clock())
    # What was there before anything was served stays as long as the process.
    gc.freeze()
    # The youngest is looked at in between, too, where many objects are made at once.
    gc.set_threshold(_PYTHONS_OWN[_YOUNG], _NEVER, _NEVER)
    try:
        while True:
            await asyncio.sleep(EVERY_S)
            collecting.look(clock())
    finally:
        gc.set_threshold(*_PYTHONS_OWN)

"""What is done in threads with blocks of memory, one after the other, while others are filled."""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

BLOCK_BYTES = 1_048_576
"""A multiple of what any disk or file system wants aligned that is written past the page cache."""
_AT_ONCE = 4
"""Blocks in a row that are taken by one call: Python's threads wait for each other at every one."""
_TURN_CALLS = 8
"""Then a thread goes to whoever waits longest."""
# Threads of their own: whatever else is done in one would wait behind gigabytes.
_threads = ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 4), thread_name_prefix="stage")


class Stage:
    """Does the same to block after block, in a thread for as long as there are any; tells of it by `changed`.

    `passed` counts those to which it was done; a fault ends it, and the blocks that it met never count.
    """

    def __init__(self, memory: memoryview, act: Callable[[memoryview], None], changed: asyncio.Event) -> None:
        self.passed = 0
        self._fault: Exception | None = None
        self._memory = memory
        self._act = act
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._places: deque[int] = deque()
        self._is_at_work = False
        self._is_stopped = False
        self._lock = threading.Lock()

    def take(self, place: int) -> None:
        """Do it to the block there, after those before."""
        with self._lock:
            self._places.append(place)
            if self._is_at_work:
                return
            self._is_at_work = True
        _threads.submit(self._work)

    def check(self) -> None:
        """Raise what ended it."""
        if self._fault is not None:
            raise self._fault

    def stop(self) -> None:
        """Begin no other block, and let go of the memory, and of what was met: that remembers where, and so this."""
        with self._lock:
            self._is_stopped = True
            self._fault = None
            self._memory = memoryview(b"")

    def _work(self) -> None:
        for _ in range(_TURN_CALLS):
            blocks = self._next()
            if not blocks:
                return
            first, count = blocks[0], len(blocks)
            try:
                self._act(self._memory[first * BLOCK_BYTES : (first + count) * BLOCK_BYTES])
            except Exception as error:  # noqa: BLE001 # it is raised where the loop waits for this
                self._fail(error)
            else:
                self.passed += count
            self._loop.call_soon_threadsafe(self._changed.set)
        _threads.submit(self._work)

    def _fail(self, error: Exception) -> None:
        with self._lock:
            if not self._is_stopped:  # else nobody would let go of it any more
                self._is_stopped, self._fault = True, error

    def _next(self) -> list[int]:
        """Return the places of the next blocks that are in a row; when there are none, the next `take` begins anew."""
        with self._lock:
            found: list[int] = []
            while (
                not self._is_stopped
                and self._places
                and len(found) < _AT_ONCE
                and (not found or self._places[0] == found[-1] + 1)
            ):
                found.append(self._places.popleft())
            self._is_at_work = bool(found)
            return found

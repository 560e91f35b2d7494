"""Threads for calls that nobody can interrupt.

Not a `ThreadPoolExecutor`: the interpreter waits for that one's threads when it ends, and a call to a libvirtd that is
stopped, or that a dead node serves, may never return.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class CallThreads:
    """A few threads that end with the process, whatever they are waiting for."""

    def __init__(self, count: int, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(count)]
        self._is_closed = False
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Have `function` called by the first thread that is free.

        Raises:
            RuntimeError: The threads are closed.
        """
        if self._is_closed:
            raise RuntimeError("no call is made after the end")
        future: Future[T] = Future()
        self._calls.put((function, future))
        return future

    def close(self) -> None:
        """Take no further calls, and give up those that have not begun; returns at once."""
        self._is_closed = True
        while True:
            try:
                waiting = self._calls.get_nowait()
            except queue.Empty:
                break
            if waiting is not None:
                waiting[1].cancel()
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
                future.set_exception(error)

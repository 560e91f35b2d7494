"""A libvirtd that does not answer: since when, and what is done about it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

Restart = Callable[[str], Awaitable[bool]]
"""Has libvirtd killed and started again, told why; says whether another one serves now."""


class Silence:
    """Since when nobody has had an answer, whoever asked."""

    def __init__(self) -> None:
        self._began_at_s: float | None = None
        self._broken_at_s = time.monotonic()

    @property
    def lasts_s(self) -> float:
        """How long it has lasted, 0 if there is none."""
        return 0.0 if self._began_at_s is None else time.monotonic() - self._began_at_s

    def noticed(self, asked_at_s: float) -> None:
        """Note that who asked then got no answer."""
        if self._began_at_s is None:
            self._began_at_s = max(asked_at_s, self._broken_at_s)

    def broken(self) -> None:
        """Note an answer, or that it is another libvirtd that is going to be asked."""
        self._began_at_s = None
        self._broken_at_s = time.monotonic()


class Restarts:
    """One restart at a time, whoever asks for it, and none for what happened before the last one.

    Args:
        restart: How libvirtd is started again; None for one that is not the launcher's.
        silence: Is broken by a restart.
    """

    def __init__(self, restart: Restart | None, silence: Silence) -> None:
        self.count = 0
        self._restart = restart
        self._silence = silence
        self._running: asyncio.Task[bool] | None = None

    async def since(self, count: int, reason: str) -> bool:
        """Have libvirtd started again unless it was since there were `count` restarts; tell whether it was."""
        if self.count != count:
            return True
        if self._restart is None:
            return False
        if self._running is None:
            self._running = asyncio.create_task(self._run(self._restart, reason))
        return await asyncio.shield(self._running)

    async def close(self) -> None:
        """Wait for no restart any more."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _run(self, restart: Restart, reason: str) -> bool:
        try:
            if not await restart(reason):
                return False
            self.count += 1
            self._silence.broken()
            return True
        finally:
            self._running = None

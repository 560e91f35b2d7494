"""How Ctrl-C and SIGTERM end the demo: noted when they come, acted on where it waits.

An exception at any place could come between a process and the note that it was started; so it comes at chosen ones.
"""

import signal
from types import FrameType


class Stopped(Exception):
    """A signal asked the demo to end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {'Ctrl-C' if number is signal.SIGINT else number.name}")
        self.exit_status = 128 + number


class StopSignals:
    """Notes the first signal that asks to end; further ones change nothing, for what is to be done then is bounded."""

    def __init__(self) -> None:
        self._came: signal.Signals | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Whoever calls a program by `nohup` means it.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._came = self._came or signal.Signals(number)

    def check(self) -> None:
        """Do nothing, or raise.

        Raises:
            Stopped: a signal has come.
        """
        if self._came is not None:
            raise Stopped(self._came)

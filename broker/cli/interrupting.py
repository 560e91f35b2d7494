"""Ctrl-C and SIGTERM for a command that must put things back before it ends."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

from broker.cli.exits import Exit

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def until_interrupted(work: Coroutine[Any, Any, int | None]) -> int | None:
    """Do the work; a signal, however often it comes, cancels it, and what it does to end is waited for.

    Returns:
        The work's exit status, or that of an interrupted command.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)
    for number in _SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    try:
        await asyncio.wait([task])
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    return Exit.INTERRUPTED if task.cancelled() else task.result()

"""`launcher advertise`: an answer in time, whatever happens."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

import structlog
import typer

from launcher.advertise.answer import Answer, launcher_version
from launcher.advertise.look import look
from launcher.settings import Settings, SettingsError, read_settings

LIMIT_S: Final = 50.0
"""What is begun then is undone, which takes some seconds."""
_LAST_S: Final = 60
"""Then the answer is given, and whatever still holds is left to the kernel, and to the next launcher."""


def answer_in_time(*, cache: Path | None, scratch: Path | None, account: str | None) -> None:
    """Print what this node is to tell of vms."""
    # What a launcher would log is in the reason; stdout is the batch system's.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGALRM, lambda *_: _give_up())
    signal.alarm(_LAST_S)
    answer = _answer(cache=cache, scratch=scratch, account=account)
    signal.alarm(0)
    for line in answer.lines():
        typer.echo(line)


def _answer(**command_line: object) -> Answer:
    try:
        settings = read_settings(**command_line)
    except SettingsError as error:
        return _no("; ".join(error.faults))
    try:
        return asyncio.run(_look_in_time(settings))
    except TimeoutError:
        return _no(f"this node did not show within {LIMIT_S:g} s that a vm can be started here")
    except ModuleNotFoundError as error:
        return _no(f"{error.name} is not installed on this node: pip install 'vmbroker[launcher]'")
    except Exception as error:  # noqa: BLE001 - a bug met here must not leave the slot with an answer of yesterday
        return _no(f"the trial itself failed: {type(error).__name__}: {error}; tell whoever maintains vmbroker")


async def _look_in_time(settings: Settings) -> Answer:
    async with asyncio.timeout(LIMIT_S):
        return await look(settings)


def _no(reason: str) -> Answer:
    return Answer(reason=reason, version=launcher_version())


def _give_up() -> None:
    """Answer where the node's file systems or programs hold this process up, and end without waiting for them."""
    answer = _no(f"this node did not show within {_LAST_S} s that a vm can be started here, and does not let go")
    os.write(1, "".join(f"{line}\n" for line in answer.lines()).encode())
    os._exit(0)

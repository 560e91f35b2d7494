"""A batch system of the tests' kept up for a person: `python -m tests.support.condor_pool FOLDER`."""

import argparse
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class Usable(Protocol):
    """What is used by putting words before a command."""

    def account_words(self) -> list[str]:
        """Return those words."""


def keep_up(module: str, start: Callable[[Path], AbstractContextManager[Usable]]) -> None:
    """Keep it up in the folder that the command line names, until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description="Keep it up until Ctrl-C or SIGTERM.")
    parser.add_argument("folder", type=Path, help="a new folder with a short path, such as /tmp/pool")
    folder: Path = parser.parse_args().folder.resolve()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begun_s = time.monotonic()
    with start(folder) as usable:
        print(f"up in {time.monotonic() - begun_s:.1f} s; to use it, put this before a command:")
        print(" ".join(usable.account_words()), flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            return

"""What the programs of a run are told, as one JSON text on stdin, and how they call the broker."""

import sys
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from broker.client.session import Patience, Session
from tests.fault.history import History

T = TypeVar("T", bound=msgspec.Struct)

MARK_VARIABLE: Final = "VMBROKER_FAULT_RUN"
"""In the environment of every process of a run: by it they are found, whoever started them."""
PATIENCE: Final = Patience(attempts=10_000, total_s=120.0, first_delay_s=0.1, max_delay_s=1.0)
EXIT_FAILED: Final = 3
EXIT_GAVE_BACK: Final = 75
EXIT_LOST: Final = 4


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a process writes its history, under which name, and whom it calls."""

    histories: str
    who: str
    url: str
    seed: int
    token: str | None = None

    def history(self) -> History:
        return History(Path(self.histories), self.who)

    def session(self) -> Session:
        return Session(self.url, token=self.token, patience=PATIENCE)


class ResearcherJob(msgspec.Struct, frozen=True, kw_only=True):
    place: Place
    number: int
    user: str
    pause_s: float
    """Between two new chunks."""


class LauncherJob(msgspec.Struct, frozen=True, kw_only=True):
    place: Place
    vms: int


class GuestJob(msgspec.Struct, frozen=True, kw_only=True):
    place: Place
    item: str
    dispatch: str
    fence: int
    ticket: str


def command(program: str) -> list[str]:
    """Return the command line of one of the programs."""
    return [sys.executable, "-m", f"tests.fault.{program}"]


def told(kind: type[T]) -> T:
    """Return what this process was told."""
    return msgspec.json.decode(sys.stdin.buffer.read(), type=kind)

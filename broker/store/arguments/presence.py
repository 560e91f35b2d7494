"""Who is there: launchers, submitters of launcher jobs, the clock, the store's own process."""

from typing import NamedTuple


class Hear(NamedTuple):
    launcher: str
    silence_ms: int


class HearMany(NamedTuple):
    silence_ms: int
    rest: tuple[str, ...]


class Look(NamedTuple):
    skip: int
    most: int
    lanes: int


class ReportLauncher(NamedTuple):
    launcher: str
    report: str
    serves: str
    labels: str
    silence_ms: int


class RemoveLauncher(NamedTuple):
    launcher: str


class ReportJobs(NamedTuple):
    submitter: str
    report: str
    serves: str


class RemoveJobs(NamedTuple):
    submitter: str


class Tick(NamedTuple):
    away_ms: int
    lease_ms: int
    most_promoted: int
    most_expired: int


class BeginLife(NamedTuple):
    run: str

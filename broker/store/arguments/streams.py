"""What is done to a whole stream."""

from typing import NamedTuple


class Pause(NamedTuple):
    user: str
    job: str
    code: str
    sentence: str


class Resume(NamedTuple):
    user: str
    job: str
    by: str


class StartBulk(NamedTuple):
    user: str
    job: str
    id: str
    act: str
    states: str
    code: str
    sentence: str
    by: str
    rate: int
    most_owed: int


class CancelMany(NamedTuple):
    user: str
    job: str
    id: str
    begin: int
    most: int
    code: str
    sentence: str


class HoldMany(NamedTuple):
    user: str
    job: str
    id: str
    begin: int
    most: int
    code: str
    sentence: str


class ReleaseMany(NamedTuple):
    user: str
    job: str
    id: str
    begin: int
    most: int


class EndBulk(NamedTuple):
    user: str
    job: str
    id: str


class TrimReady(NamedTuple):
    lane: str


class PurgeMany(NamedTuple):
    user: str
    job: str
    id: str
    rest: tuple[str, ...]


class RemoveStream(NamedTuple):
    user: str
    job: str
    id: str
    rest: tuple[str, ...]

"""What is done with the outbox: what users' servers are owed."""

from typing import NamedTuple


class TakeCallbacks(NamedTuple):
    most: int
    most_per_user: int
    visible_ms: int


class BeginCallback(NamedTuple):
    entry: str
    id: str
    visible_ms: int


class NoteCallback(NamedTuple):
    user: str
    entry: str
    state: str
    sentence: str
    status: str
    again_ms: int


class StopCallback(NamedTuple):
    user: str
    job: str
    code: str
    sentence: str


class ReplayCallback(NamedTuple):
    user: str
    entry: str

"""What researchers define before they push, and what images are granted."""

from typing import NamedTuple


class ExpectImage(NamedTuple):
    digest: str


class GrantImage(NamedTuple):
    user: str
    digest: str
    size_bytes: int
    most_bytes: int
    most: int


class ReleaseImage(NamedTuple):
    user: str
    digest: str
    keep_ms: int


class PutMachine(NamedTuple):
    user: str
    name: str
    definition: str
    most: int
    revisions: int
    rest: tuple[str, ...]


class DeleteMachine(NamedTuple):
    user: str
    name: str
    most: int
    rest: tuple[str, ...]


class ShareMachine(NamedTuple):
    reader: str


class PutStream(NamedTuple):
    user: str
    job: str
    spec: str
    named: str
    is_own: bool
    most: int
    revisions: int
    callback: str


class ReserveFile(NamedTuple):
    more_bytes: int
    most_bytes: int


class FreeFile(NamedTuple):
    less_bytes: int


class RecountFiles(NamedTuple):
    moves: int
    size_bytes: int

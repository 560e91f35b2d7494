"""What is done with a researcher's secrets."""

from typing import NamedTuple

from broker.wire.names import DispatchId


class PutSecret(NamedTuple):
    name: str
    kind: str
    size: int
    sealed: str
    version: int
    most: int


class DeleteSecret(NamedTuple):
    name: str


class GiveSecrets(NamedTuple):
    user: str
    job: str
    number: str
    dispatch: DispatchId
    shown_ms: int
    rest: tuple[str, ...]

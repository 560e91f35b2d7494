"""What the checker is given and what it finds: recorded histories, the public API's answers, and a list of faults."""

from collections import Counter
from enum import StrEnum
from typing import NamedTuple

import msgspec

from broker.wire.events import Event
from broker.wire.files import ResultLine
from broker.wire.items import ItemView
from broker.wire.streams import Retry
from tests.fault.history import Call


class FaultKind(StrEnum):
    LOST = "lost"
    """Something that was acknowledged is not there."""
    DOUBLED = "doubled"
    """One push was taken twice, or an item has two accepted results."""
    OVERLAP = "overlap"
    """Two dispatches of one item were believed current at one time."""
    FENCE = "fence"
    """A fence did not grow, or two dispatches have one."""
    COUNTERS = "counters"
    """Numbers that must agree do not, or a bound was passed."""
    SEQUENCE = "sequence"
    """The event log has a gap, or is out of order."""
    LIFECYCLE = "lifecycle"
    """An item moved as the lifecycle table does not allow."""
    EXPIRED_EARLY = "expired_early"
    """A lease was ended before its time."""
    UNSETTLED = "unsettled"
    """At the end an item is not settled, or a dispatch is open."""
    KEYS_LEFT = "keys_left"
    """The store holds a key that it should not."""


class Fault(NamedTuple):
    kind: FaultKind
    subject: str
    """The item, the push or the stream that it is about."""
    sentence: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}: {self.sentence}"


class StreamEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What the API says of a stream at the end."""

    stream: str
    counts: dict[str, int]
    items: list[ItemView]
    events: list[Event]
    results: list[ResultLine]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run left: `keys` are sentences about keys in the store that should not be there."""

    calls: list[Call]
    streams: list[StreamEvidence]
    keys: list[str] = []
    retry: Retry = Retry()
    lease_ms: int = 120_000

    def times(self) -> Counter[str]:
        """Return how often each act was tried, those of the saboteur and of the way to the broker among them."""
        return Counter(call.act for call in self.calls)

    def summary(self) -> str:
        """Return in a few lines how much happened."""
        outcomes = Counter(f"{call.act} {call.outcome}" for call in self.calls)
        lines = [f"{stream.stream}: {stream.counts}, {len(stream.events)} events" for stream in self.streams]
        return "\n".join([*lines, ", ".join(f"{what} {times}" for what, times in sorted(outcomes.items()))])

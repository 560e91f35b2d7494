"""What the store hands to those above it, where the wire has no type for it."""

from dataclasses import dataclass

from broker.domain.placement import Size
from broker.wire.callbacks import CallbackState
from broker.wire.events import Event
from broker.wire.machines import MachineView
from broker.wire.names import DispatchId, ItemRef, StreamRef, UserName
from broker.wire.streams import StreamSpec


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What was read out of a machine's XML; `dropped` are sentences for its owner."""

    vcpus: int
    memory_mib: int
    firmware: str
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GivenItem:
    """What of an item a vm works with; it never changes. `revision`: of its stream's spec."""

    ref: ItemRef
    revision: int
    url: str | None
    params: dict[str, str]
    inputs: dict[str, str]
    """Its own further inputs, by name."""


@dataclass(frozen=True, slots=True)
class Dispatched:
    """An item given to a launcher. `repeated`: its dispatch key had been given this before."""

    dispatch: DispatchId
    item: GivenItem
    fence: int
    spec: StreamSpec
    machine: MachineView
    size: Size
    boot_ms: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """Whose word it is, as a lease token says: item, fence, and the SHA-256 of its secret part in hexadecimal.

    The store compares all three: only the last one cannot be made up.
    """

    item: ItemRef
    fence: int
    nonce_hash: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """An item that is a vm's, until `deadline_in_ms` from now unless it extends.

    `run_ms`: how long it may run from its claim; less than the spec's where the launcher's slot ends before.
    """

    dispatch: DispatchId
    item: GivenItem
    fence: int
    spec: StreamSpec
    deadline_in_ms: int
    run_ms: int


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events in order. `truncated`: some that were asked for are gone; the batch begins with the oldest there is."""

    events: list[Event]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """A bell: items of the stream became ready. It carries nothing else, and one may be lost: look."""

    stream: StreamRef


@dataclass(frozen=True, slots=True)
class Grown:
    """A bell: there are more events of the stream, or of the user's streams."""

    of: StreamRef | UserName


Bell = Ready | Grown


@dataclass(frozen=True, slots=True)
class OwedCallback:
    """An event that a stream's server is owed. `entry` is its place in the outbox, `id` its `webhook-id`.

    `body` is the CloudEvent in JSON, the same at each attempt, of which `attempts` were begun.
    """

    entry: str
    id: str
    stream: StreamRef
    body: bytes
    attempts: int


@dataclass(frozen=True, slots=True)
class CallbackOutcome:
    """What became of an attempt: `delivered`, `dead`, or to be tried again after `again_ms`."""

    state: CallbackState
    sentence: str
    status: int | None = None
    again_ms: int = 0

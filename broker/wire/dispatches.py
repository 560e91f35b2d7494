"""Between launcher and broker: an offer of room, the dispatched item, what becomes of its vm."""

from broker.wire.kinds import Message
from broker.wire.leases import SignedUrl
from broker.wire.states import Accelerator, Exchange, Instruction, Phase, Verdict

MAX_WAIT_MS = 30_000
MAX_DISPATCHES = 64
"""Items in one answer."""
MAX_CONSOLE_BYTES = 65_536
MAX_BOOTED_XML_BYTES = 262_144


class Room(Message, frozen=True, kw_only=True):
    """What a launcher has free for one vm.

    `time_left_ms`: until it will begin to stop its vms, as its slot ends; absent: no end is known. They may take
    `drain_ms` longer to stop.
    """

    vcpus: int
    memory_mib: int
    disk_mib: int
    accelerator: Accelerator
    time_left_ms: int | None = None
    drain_ms: int = 0
    exchanges: tuple[Exchange, ...] = (Exchange.NETWORK,)


class DispatchRequest(Message, frozen=True, kw_only=True):
    """`POST /v1/dispatch`. Repeating a `dispatch_key` gives the same dispatch, ticket included.

    Answered 200 with `DispatchAnswer`, or 204 when nothing came within `wait_ms`.
    """

    dispatch_key: str
    launcher: str
    node: str
    room: Room
    wait_ms: int = 20_000
    client: str = ""
    users: tuple[str, ...] = ()
    """Whom the site serves; empty: everybody whom the token covers."""
    most: int | None = None
    """So many items at most, as far as they fit into the room together: answered with `DispatchAnswers`."""


class StagedItem(Message, frozen=True, kw_only=True):
    """What a launcher needs to bring an item to its vm without a network, before it boots.

    `input` is signed for a while; repeating the `dispatch_key` signs it anew.
    """

    run: str
    as_user: str
    output_files: list[str]
    output_mib: int
    script: str = ""
    params: dict[str, str] = {}
    input_name: str | None = None
    input: SignedUrl | None = None
    inputs: dict[str, SignedUrl] = {}
    """Further inputs, by name."""
    input_names: dict[str, str] = {}
    """Their file names, by the same names."""


class DiskSource(Message, frozen=True, kw_only=True):
    """One disk of the machine: where its image can be had (signed for a while) and what it must be."""

    digest: str
    size_bytes: int
    format: str
    url: str


class DispatchLimits(Message, frozen=True, kw_only=True):
    boot_ms: int
    run_ms: int
    first_deadline_ms: int
    heartbeat_ms: int


class DispatchAnswer(Message, frozen=True, kw_only=True):
    """An item for this launcher. `origins` are the `HOST:PORT`s that its vm may reach, the broker's first."""

    dispatch: str
    item: str
    fence: int
    ticket: str
    machine: str
    machine_revision: int
    domain_xml: str
    disks: dict[str, DiskSource]
    vcpus: int
    memory_mib: int
    disk_mib: int
    limits: DispatchLimits
    origins: list[str]
    nvram: DiskSource | None = None
    """The machine's UEFI variables, copied for each vm."""
    exchange: Exchange = Exchange.NETWORK
    exchange_folder: str = ""
    staged: StagedItem | None = None
    """Present when the exchange is not `network`: the launcher then brings the item, and claims it for the vm."""


class DispatchAnswers(Message, frozen=True, kw_only=True):
    """The answer to a request that said how many it takes: one or more items, in the order they were given."""

    dispatches: list[DispatchAnswer]


class DispatchExtend(Message, frozen=True, kw_only=True):
    """`POST /v1/dispatches/{id}/extend`: while dispatched it moves the deadline, while running it shows presence.

    `launcher` in this and the next messages is the name under which the dispatch was taken.
    """

    launcher: str
    stops_in_ms: int | None = None
    """The vm will be destroyed after this time: the guest's next extend is answered `drain`."""


class DispatchExtended(Message, frozen=True, kw_only=True):
    """`state` is the item's when the dispatch is still its own, else `over`."""

    instruction: Instruction
    state: str
    deadline_in_ms: int | None = None


class VmEvent(Message, frozen=True, kw_only=True):
    """`POST /v1/dispatches/{id}/events`: a phase, reported once each."""

    launcher: str
    phase: Phase
    facts: dict[str, str] = {}


class EndVm(Message, frozen=True, kw_only=True):
    """`POST /v1/dispatches/{id}/end`: the vm is gone. Idempotent: the first verdict stands."""

    launcher: str
    verdict: Verdict
    sentence: str
    facts: dict[str, str] = {}
    console: bytes = b""
    """The console's tail, raw, at most `MAX_CONSOLE_BYTES`."""
    domain_xml: str = ""
    """The domain as it was booted, at most `MAX_BOOTED_XML_BYTES`; empty when it came to no boot."""


class VmEnded(Message, frozen=True, kw_only=True):
    """The verdict that stands, and what became of the item."""

    verdict: Verdict
    state: str
    machine_claimed: bool = False
    """Some vm of this machine's revision has claimed, here or elsewhere: it is no fault of the machine's."""

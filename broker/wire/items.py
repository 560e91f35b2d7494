"""Items: what a researcher pushes, and what the broker says of one."""

from broker.wire.kinds import FromPerson, Message
from broker.wire.states import Accelerator, ItemState, Phase, Priority, Verdict

MAX_PARAMS_BYTES = 65_536
MAX_URL_BYTES = 8_192
CHUNK_ITEMS = 500
"""Most items of one part of a push, which is accepted as a whole."""
CHUNK_BYTES = 3_145_728
"""Where a part of a push is cut at the latest."""


# Texts and numbers form no cycles: Python's collector need not look at the thousands of a push.
class NewItem(FromPerson, frozen=True, kw_only=True, gc=False):
    """One item of a push. `url`, its input, is `file:USER/PATH` of the broker's file service, `http:`, `https:`, `s3:`,
    or of a scheme that its stream has a plugin for; or absent.

    `inputs` are further ones, by name. `name` is an item's alone in its stream: pushed again, it adds nothing.
    `delay_ms`: it becomes ready so much later.
    """

    url: str | None = None
    name: str | None = None
    params: dict[str, str] = {}
    inputs: dict[str, str] = {}
    priority: Priority = Priority.NORMAL
    delay_ms: int = 0


class Pushed(Message, frozen=True, kw_only=True):
    """The answer to a push: every accepted item is on disk when `durability` is `fsync`.

    `first` and `last` are the numbers of those that were added. `duplicates` were left out, as their names are in the
    stream already. `repeated`: nothing was added now; this is what the same push was answered when it first came.
    """

    stream: str
    accepted: int
    first: int
    last: int
    durability: str
    duplicates: int = 0
    repeated: bool = False
    before: int = 0
    """Where only some parts were added before: how many items those have."""
    refused: tuple[dict[str, str], ...] = ()
    """With `skip_bad`: the bad lines, each with `line`, `reason` and `remedy`."""


class OutputFile(Message, frozen=True, kw_only=True):
    """A file that a guest uploaded: `url` without any signature, `digest` as `sha256:…`."""

    name: str
    size_bytes: int
    digest: str
    url: str


class Reason(Message, frozen=True, kw_only=True):
    """Why an item is delayed or held, or why its last vm ended: a closed code and a sentence."""

    code: str
    sentence: str


class VmView(Message, frozen=True, kw_only=True):
    """The item's last vm. `phases` gives the store's time (RFC 3339) at which each phase was reported."""

    dispatch: str
    fence: int
    launcher: str
    node: str
    accelerator: Accelerator | None = None
    vcpus: int = 0
    memory_mib: int = 0
    phases: dict[Phase, str] = {}
    facts: dict[str, str] = {}
    """What launcher and guest told of the vm: `guest_os`, `fetch_ms`, `run_ms`, `upload_ms`, …"""
    verdict: Verdict | None = None
    sentence: str = ""
    has_console: bool = False


class DryItem(Message, frozen=True, kw_only=True):
    """Where an item's files would be: its outputs are supposed to be `out.txt`, of the first run of item `number`.

    `headers` by the address that they go along to; a secret's value is `secret NAME` here.
    """

    number: int
    input: str | None = None
    inputs: dict[str, str] = {}
    target: str
    headers: dict[str, dict[str, str]] = {}


class DryRun(Message, frozen=True, kw_only=True):
    """The answer to a push with `?dry_run=1`, which adds nothing: the `items` that are good, the first ones shown."""

    stream: str
    items: int
    first: list[DryItem] = []
    refused: tuple[dict[str, str], ...] = ()


class ItemView(Message, frozen=True, kw_only=True):
    item: str
    state: ItemState
    revision: int
    pushed_at: str
    url: str | None = None
    name: str | None = None
    params: dict[str, str] = {}
    inputs: dict[str, str] = {}
    priority: Priority = Priority.NORMAL
    attempts: int = 0
    boots: int = 0
    reason: Reason | None = None
    not_before: str | None = None
    """When a delayed item becomes ready."""
    exit_code: int | None = None
    outputs: list[OutputFile] = []
    settled_at: str | None = None
    vm: VmView | None = None
    waits: Reason | None = None
    """What a ready item waits for; told of an item that is asked for by its number, not in listings."""


class CancelledItem(ItemView, frozen=True, kw_only=True):
    """The answer to a cancel. `had_vm`: a vm had the item, and its guest and launcher are told to end."""

    had_vm: bool = False


class HoldItem(FromPerson, frozen=True, kw_only=True):
    """Why an item is set aside, for whoever looks at it later."""

    reason: str = ""


class Why(Message, frozen=True, kw_only=True):
    """Why an item, or a stream, is where it is. `launchers` are those that are there, by how they stand to it: by the
    first need of its that they do not meet, or `free`, `busy`, `not_well`, `serves_others`, `no_room_told`.
    """

    subject: str
    code: str
    sentence: str
    state: ItemState | None = None
    launchers: dict[str, int] = {}


class ItemPage(Message, frozen=True, kw_only=True):
    items: list[ItemView]
    next_cursor: str | None = None

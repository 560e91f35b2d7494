"""Items: what a researcher pushes, and what the broker says of one."""

from broker.wire.kinds import FromPerson, Message
from broker.wire.states import Accelerator, ItemState, Phase, Verdict

MAX_PARAMS_BYTES = 65_536
MAX_URL_BYTES = 8_192
CHUNK_ITEMS = 500
"""Most items of one push request; our client cuts a longer push into chunks of this size."""


class NewItem(FromPerson, frozen=True, kw_only=True):
    """One item of a push. `url` is `http:`, `https:` or `file:USER/PATH` of the broker's file service, or absent."""

    url: str | None = None
    name: str | None = None
    params: dict[str, str] = {}


class Pushed(Message, frozen=True, kw_only=True):
    """The answer to a push: every accepted item is on disk when `durability` is `fsync`.

    `repeated`: nothing was added now; this is what the same push was answered when it first came.
    """

    stream: str
    accepted: int
    first: int
    last: int
    durability: str
    repeated: bool = False


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


class ItemView(Message, frozen=True, kw_only=True):
    item: str
    state: ItemState
    revision: int
    pushed_at: str
    url: str | None = None
    name: str | None = None
    params: dict[str, str] = {}
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


class ItemPage(Message, frozen=True, kw_only=True):
    items: list[ItemView]
    next_cursor: str | None = None

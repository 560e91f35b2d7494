"""Streams: the spec a researcher writes, and what the broker says of one."""

from enum import StrEnum
from typing import Literal

import msgspec

from broker.wire.callbacks import Callback
from broker.wire.items import Reason
from broker.wire.kinds import FromPerson, Message
from broker.wire.secrets import SecretKind
from broker.wire.states import Accelerator, Exchange, ItemState

KEEP_MS = 2_592_000_000
"""How long settled items are kept where a spec does not say: 30 days."""


class Needs(FromPerson, frozen=True, kw_only=True):
    """What a vm of this stream needs of a node; absent sizes are the machine's own, `slot` is all that is free."""

    vcpus: int | Literal["slot"] | None = None
    memory_mib: int | None = None
    disk_mib: int = 10_240
    accelerator: Accelerator | None = None
    exchange: Exchange = Exchange.NETWORK
    exchange_folder: str = "/vmbroker"
    """Folder of the guest's root file system, of exchange `rootdisk` only."""


class Limits(FromPerson, frozen=True, kw_only=True):
    """Bounds of one vm. `boot_ms` absent: 5 minutes with KVM, 15 with TCG."""

    boot_ms: int | None = None
    run_ms: int = 86_400_000
    output_mib: int = 4_096


class Retry(FromPerson, frozen=True, kw_only=True):
    """`attempts` counts the item's own faults, `boots` every dispatch; at a bound the item is held."""

    attempts: int = 3
    boots: int = 10
    backoff_first_ms: int = 30_000
    backoff_max_ms: int = 600_000
    hold_exit_codes: tuple[int, ...] = ()


class Output(FromPerson, frozen=True, kw_only=True):
    """`files`: shell patterns of what to upload from the output folder; `to`: the target's template."""

    files: tuple[str, ...] = ("*",)
    to: str = "file:{user}/{job}/{item}/{run}/{name}"


class SecretUse(FromPerson, frozen=True, kw_only=True):
    """A secret of the stream's own user that each vm is given; `as` absent: announced as its own kind."""

    name: str
    as_kind: SecretKind | None = msgspec.field(default=None, name="as")


class OriginAccess(FromPerson, frozen=True, kw_only=True):
    """What is sent along to one `HOST` or `HOST:PORT` with requests for inputs and outputs, and to no other.

    `headers` as they are; `secret_headers`: the name of a header, and of the secret of the stream's user that is its
    value. One of kind `bearer_token` is sent as `Bearer VALUE`.
    """

    headers: dict[str, str] = {}
    secret_headers: dict[str, str] = {}


class S3Access(FromPerson, frozen=True, kw_only=True):
    """Where the `s3://BUCKET/KEY` of a stream are, and whose they are. The broker signs; no vm is given the keys.

    `secret`: of the stream's user, of kind `aws_credentials`. `endpoint` absent: that of AWS for the region; given, a
    bucket is the first part of the path there.
    """

    secret: str
    endpoint: str | None = None
    region: str = "us-east-1"


class StreamSpec(FromPerson, frozen=True, kw_only=True):
    """The whole spec. `machine` may be `NAME` or `USER/NAME`; `run` is split like a shell would, without a shell."""

    machine: str
    run: str = ""
    """Absent with a `script`: that is run, with the input, where there is one, and the output folder as arguments."""
    script: str = ""
    """Text of a program that travels with the items; `{script}` in `run` is where the guest finds it."""
    params: dict[str, str] = {}
    """Parameters of every item; an item's own of the same name come before them."""
    as_user: str = "root"
    needs: Needs = Needs()
    limits: Limits = Limits()
    retry: Retry = Retry()
    output: Output = Output()
    inputs: dict[str, str] = {}
    """Further inputs of every item, by name; an item's own of the same name come before them."""
    access: dict[str, OriginAccess] = {}
    """By `HOST` or `HOST:PORT`: what is sent along with requests for inputs and outputs there."""
    s3: S3Access | None = None
    """Where inputs and targets `s3://BUCKET/KEY` are."""
    plugins: dict[str, str] = {}
    """Of other schemes of inputs and targets: the HTCondor file transfer plugin that does it, a path in the vm."""
    network: tuple[str, ...] = ()
    """`HOST:PORT` that the program needs beyond its input and output."""
    secrets: tuple[SecretUse, ...] = ()
    trust: tuple[str, ...] = ()
    """Labels of launchers' tokens: whoever carries one of them may have items of a stream that needs secrets."""
    callback: Callback | None = None
    """Who is told of settled items."""
    keep_ms: int = KEEP_MS
    """How long settled items, their results' records and logs are kept: 30 days."""


class BulkAct(StrEnum):
    """An act on all items of a stream, or those in some states."""

    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"
    PURGE = "purge"


class BulkRequest(FromPerson, frozen=True, kw_only=True):
    """`POST …/STREAM/cancel | hold | release`. Without `states`: all that the act can be done to.

    `rate`: at most so many items a second, so that what is released does not come all at once; 0: no bound.
    """

    states: tuple[ItemState, ...] = ()
    reason: str = ""
    rate: int = 0


class PauseRequest(FromPerson, frozen=True, kw_only=True):
    """Why a stream gives nothing out for now."""

    reason: str = ""


class BulkView(Message, frozen=True, kw_only=True):
    """A bulk act, going on or the last one that was done. `looked_at` of `of` items were looked at so far."""

    act: BulkAct
    states: tuple[ItemState, ...]
    by: str
    started_at: str
    of: int
    looked_at: int
    acted: int
    """How many items it was done to."""
    ended_at: str | None = None


class StreamView(Message, frozen=True, kw_only=True):
    stream: str
    revision: int
    spec: StreamSpec
    counts: dict[str, int]
    """Items by state; every state is present, forgotten items are in none."""
    created_at: str
    forgotten: int = 0
    """Items whose record was removed, `keep_ms` after they settled."""
    paused: Reason | None = None
    """Why it gives nothing out, while it is paused."""
    paused_at: str | None = None
    callback_off: Reason | None = None
    """Why its server is told nothing more, until its spec is put again."""
    callback_off_at: str | None = None
    bulk: BulkView | None = None
    last_event: str | None = None
    """Id of the stream's last event: whoever follows from it misses nothing that comes."""


class RevisionView(Message, frozen=True, kw_only=True):
    """One revision of a stream's spec, in short."""

    revision: int
    machine: str
    run: str
    has_script: bool = False
    put_at: str | None = None
    """Absent where an older broker took it in."""

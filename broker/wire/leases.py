"""Between guest and broker: claim, extend, urls, complete, fail. The guest's protocol; additive for the life of /v1."""

from typing import Annotated

import msgspec

from broker.wire.items import OutputFile
from broker.wire.kinds import Message
from broker.wire.secrets import GivenSecret
from broker.wire.states import FailureCode, Instruction

MAX_LOG_BYTES = 65_536
MAX_OUTPUTS = 1_000

ExitCode = Annotated[int, msgspec.Meta(ge=-255, le=255)]
"""A program's exit status; negative where a signal ended it. A larger number would not survive the store's scripts,
whose numbers are doubles."""


class ClaimRequest(Message, frozen=True, kw_only=True):
    """`POST /v1/claim`. `claim_key` is 32 random bytes in base64, made by the guest and repeated by a restarted one."""

    ticket: str
    claim_key: str
    client: str = ""
    guest_os: str = ""
    takes_secrets: bool = False
    """The guest keeps secrets in memory and takes them away at its end; to one that does not say so none is given."""
    takes_inputs: bool = False
    """The guest knows further inputs, plugins, and folders of outputs; one that does not say so gets no such item."""


class Input(Message, frozen=True, kw_only=True):
    """What to fetch: `name` is the file's own name; the address comes from `POST /v1/lease/urls`."""

    name: str
    url: str


class LeaseLimits(Message, frozen=True, kw_only=True):
    heartbeat_ms: int
    lease_ms: int
    run_ms: int
    output_mib: int
    max_outputs: int = MAX_OUTPUTS


class ClaimAnswer(Message, frozen=True, kw_only=True):
    """The item, and the lease that makes it this vm's."""

    item: str
    fence: int
    lease: str
    run: str
    as_user: str
    output_files: list[str]
    limits: LeaseLimits
    script: str = ""
    """Text of the program that `{script}` in `run` stands for."""
    input: Input | None = None
    inputs: dict[str, Input] = {}
    """Further inputs, by the names that the stream and the item give them."""
    plugins: dict[str, str] = {}
    """Of other schemes than http and https: the HTCondor file transfer plugin in this vm that does it."""
    params: dict[str, str] = {}
    secrets: list[GivenSecret] = []


class LeaseExtend(Message, frozen=True, kw_only=True):
    """`POST /v1/lease/extend`, every `heartbeat_ms`."""

    progress: str = ""


class LeaseExtended(Message, frozen=True, kw_only=True):
    instruction: Instruction
    deadline_in_ms: int = 0


class UrlsRequest(Message, frozen=True, kw_only=True):
    """`POST /v1/lease/urls`, just before each transfer and after a 403."""

    outputs: list[str] = []
    uploads: dict[str, "UploadFacts"] = {}
    """What is known of those outputs by now, by name: some targets can be signed for these very bytes alone."""
    secrets: dict[str, int] = {}
    """The secrets that the guest has, each with its version: of those that changed the answer has the new ones."""


class UploadFacts(Message, frozen=True, kw_only=True):
    """An output before it is uploaded; `digest` as `sha256:…`."""

    size_bytes: int
    digest: str


class SignedUrl(Message, frozen=True, kw_only=True):
    """An address good for a while: call `method` on `url` with `headers`. `target` is the same without signature.

    `headers` are for the origin of `url` alone: nobody that it redirects to is sent them.
    """

    url: str
    target: str
    method: str = "GET"
    headers: dict[str, str] = {}
    folders: list[str] = []
    """WebDAV collections that an output needs: each is made by MKCOL before, in this order, where it is not there."""
    size_bytes: int | None = None
    digest: str | None = None
    """What an input is, where the broker knows it."""


class UrlsAnswer(Message, frozen=True, kw_only=True):
    input: SignedUrl | None = None
    inputs: dict[str, SignedUrl] = {}
    outputs: dict[str, SignedUrl] = {}
    secrets: list[GivenSecret] = []


class CompleteRequest(Message, frozen=True, kw_only=True):
    """`POST /v1/lease/complete`: repeated with the same outputs it is answered the same, with others 409."""

    outputs: list[OutputFile]
    exit_code: ExitCode = 0
    facts: dict[str, str] = {}
    log: bytes = b""
    """The program's stdout and stderr, the last `MAX_LOG_BYTES`."""


class FailRequest(Message, frozen=True, kw_only=True):
    """`POST /v1/lease/fail`. Exit status 75 gives the item back without counting an attempt."""

    code: FailureCode
    sentence: str
    exit_code: ExitCode | None = None
    facts: dict[str, str] = {}
    log: bytes = b""


class Settled(Message, frozen=True, kw_only=True):
    """What became of the item: its state now."""

    item: str
    state: str

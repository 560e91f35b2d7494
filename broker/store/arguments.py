"""What each script is passed beside its keys, one type a script, in the order of its header's ARGV."""

import re
from typing import NamedTuple, get_args

from broker.wire.names import DispatchId


class BeginLife(NamedTuple):
    run: str


class ExpectImage(NamedTuple):
    digest: str


class GrantImage(NamedTuple):
    user: str
    digest: str
    size_bytes: int


class ReleaseImage(NamedTuple):
    user: str
    digest: str
    keep_ms: int


class PutMachine(NamedTuple):
    user: str
    name: str
    definition: str
    rest: tuple[str, ...]


class DeleteMachine(NamedTuple):
    user: str
    name: str
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


class Push(NamedTuple):
    user: str
    job: str
    keyed: bool
    digest: str
    most_items: int
    most_bytes: int
    size: int
    rest: tuple[str, ...]


class Promote(NamedTuple):
    user: str
    job: str
    number: str


class Hear(NamedTuple):
    launcher: str
    silence_ms: int


class HearMany(NamedTuple):
    silence_ms: int
    rest: tuple[str, ...]


class Look(NamedTuple):
    skip: int
    most: int
    lanes: int


class ReportLauncher(NamedTuple):
    launcher: str
    report: str
    serves: str
    silence_ms: int


class RemoveLauncher(NamedTuple):
    launcher: str


class ReportJobs(NamedTuple):
    submitter: str
    report: str
    serves: str


class RemoveJobs(NamedTuple):
    submitter: str


class Dispatch(NamedTuple):
    user: str
    job: str
    lane: str
    revision: int
    cost: int
    launcher: str
    node: str
    accelerator: str
    vcpus: int
    memory_mib: int
    machine: str
    machine_revision: int
    boot_ms: int
    run_ms: int
    kept_for: int
    first_deadline_ms: int
    time_left_ms: str
    drain_ms: int
    given: str
    rest: tuple[str, ...]


class Phase(NamedTuple):
    user: str
    job: str
    number: str
    dispatch: DispatchId
    launcher: str
    phase: str
    restarts: bool
    bound_ms: int
    silence_ms: int
    rest: tuple[str, ...]


class ExtendDispatch(NamedTuple):
    user: str
    job: str
    number: str
    dispatch: DispatchId
    launcher: str
    silence_ms: int
    stops_in_ms: str


class Claim(NamedTuple):
    user: str
    job: str
    number: str
    dispatch: DispatchId
    claim_key: str
    nonce: str
    lease_ms: int
    run_ms: int
    grace_ms: int
    guest_os: str
    client: str


class Extend(NamedTuple):
    user: str
    job: str
    number: str
    fence: int
    nonce: str
    lease_ms: int
    progress: str


class Complete(NamedTuple):
    user: str
    job: str
    number: str
    fence: int
    nonce: str
    result: str
    outputs: str
    exit_code: int
    keep_ms: int
    said: str
    rest: tuple[str, ...]


class Cancel(NamedTuple):
    user: str
    job: str
    number: str
    code: str
    sentence: str
    keep_ms: int


class Hold(NamedTuple):
    user: str
    job: str
    number: str
    code: str
    sentence: str
    keep_ms: int


class Release(NamedTuple):
    user: str
    job: str
    number: str


class Pause(NamedTuple):
    user: str
    job: str
    code: str
    sentence: str


class Resume(NamedTuple):
    user: str
    job: str
    by: str


class StartBulk(NamedTuple):
    user: str
    job: str
    id: str
    act: str
    states: str
    code: str
    sentence: str
    by: str
    rate: int


class CancelMany(NamedTuple):
    user: str
    job: str
    id: str
    begin: int
    most: int
    code: str
    sentence: str


class HoldMany(NamedTuple):
    user: str
    job: str
    id: str
    begin: int
    most: int
    code: str
    sentence: str


class ReleaseMany(NamedTuple):
    user: str
    job: str
    id: str
    begin: int
    most: int


class EndBulk(NamedTuple):
    user: str
    job: str
    id: str


class TrimReady(NamedTuple):
    lane: str


class PurgeMany(NamedTuple):
    user: str
    job: str
    id: str
    rest: tuple[str, ...]


class RemoveStream(NamedTuple):
    user: str
    job: str
    id: str
    rest: tuple[str, ...]


class Fail(NamedTuple):
    user: str
    job: str
    number: str
    dispatch: DispatchId
    counters: str
    counts: str
    to: str
    delay_ms: int
    cause: str
    refunds: bool
    code: str
    sentence: str
    exit_code: str
    keep_ms: int
    rest: tuple[str, ...]


class GiveBack(NamedTuple):
    user: str
    job: str
    number: str
    dispatch: DispatchId
    act: str
    counters: str
    counts: str
    to: str
    delay_ms: int
    cause: str
    refunds: bool
    code: str
    sentence: str
    exit_code: str
    keep_ms: int
    rest: tuple[str, ...]


class Expire(NamedTuple):
    user: str
    job: str
    number: str
    dispatch: DispatchId
    launcher: str
    heard_ms: int
    counters: str
    counts: str
    to: str
    delay_ms: int
    cause: str
    refunds: bool
    code: str
    sentence: str
    exit_code: str
    keep_ms: int


class End(NamedTuple):
    user: str
    job: str
    number: str
    dispatch: DispatchId
    launcher: str
    verdict: str
    said: str
    has_console: bool
    state: str
    over: str
    silence_ms: int
    counters: str
    counts: str
    to: str
    delay_ms: int
    cause: str
    refunds: bool
    code: str
    sentence: str
    exit_code: str
    keep_ms: int
    is_machines: bool
    rest: tuple[str, ...]


class Forget(NamedTuple):
    user: str
    job: str
    rest: tuple[str, ...]


class Tick(NamedTuple):
    away_ms: int
    lease_ms: int
    most_promoted: int
    most_expired: int


Arguments = (
    BeginLife
    | ExpectImage
    | GrantImage
    | ReleaseImage
    | PutMachine
    | DeleteMachine
    | ShareMachine
    | PutStream
    | Push
    | Promote
    | Hear
    | HearMany
    | Look
    | ReportLauncher
    | RemoveLauncher
    | ReportJobs
    | RemoveJobs
    | Dispatch
    | Phase
    | ExtendDispatch
    | Claim
    | Extend
    | Complete
    | Cancel
    | Hold
    | Release
    | Pause
    | Resume
    | StartBulk
    | CancelMany
    | HoldMany
    | ReleaseMany
    | EndBulk
    | TrimReady
    | PurgeMany
    | RemoveStream
    | Fail
    | GiveBack
    | Expire
    | End
    | Forget
    | Tick
)

SCRIPTS: dict[type[Arguments], str] = {
    kind: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower() for kind in get_args(Arguments)
}
"""The script of each type is named like it: `ExpectImage` is what `expect_image.lua` is passed."""


def flatten(arguments: Arguments) -> list[str | int]:
    """Return the arguments as the script is passed them: flags as 0 or 1, the rest unfolded at the end."""
    flat: list[str | int] = []
    for value in arguments:
        if isinstance(value, tuple):
            flat.extend(value)
        else:
            flat.append(int(value) if isinstance(value, bool) else value)
    return flat

"""What becomes of items, one by one or as they are given out together."""

from typing import NamedTuple

from broker.wire.names import DispatchId


class Push(NamedTuple):
    user: str
    job: str
    keyed: bool
    digest: str
    most_items: int
    most_bytes: int
    most_owed: int
    size: int
    width: int
    revision: int
    rest: tuple[str, ...]


class Promote(NamedTuple):
    user: str
    job: str
    number: str


class Dispatch(NamedTuple):
    user: str
    job: str
    lane: str
    is_next: bool
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
    trusted: str
    holder: str
    most_held: int
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
    most_owed: int


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

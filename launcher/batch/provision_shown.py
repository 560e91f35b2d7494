"""What `launcher provision --status` prints: what a provisioner saw, what it decided, and why."""

from collections.abc import Iterator

from launcher.batch.provision_state import KindState, ProvisionState
from launcher.batch.shown import NAMES, plain
from launcher.batch.submission import Record
from launcher.batch.times import shown_span


def status_lines(record: Record, state: ProvisionState, *, is_alive: bool, now_s: float) -> Iterator[str]:
    """Yield the lines about one provisioner."""
    life = "at work" if is_alive else "not running"
    yield f"{state.tag}  {life}, {NAMES[record.kind]}, for {record.broker}"
    if not state.looked_s:
        yield "  it has not looked yet" + (f": {plain(state.trouble)}" if state.trouble else "")
        return
    age = shown_span(max(0.0, now_s - state.looked_s))
    limits = f"soft limit {state.soft}, hard limit {state.hard}, at most {state.most_queued} may wait"
    yield f"  looked {age} ago: {state.queued} queued, {state.running} running, {state.held} held; {limits}"
    if state.trouble:
        yield f"  no look has succeeded since: {plain(state.trouble)}"
    if state.why and state.queued:
        yield f"  queued: {plain(state.why)}"
    for kind in state.kinds:
        yield from _of_kind(kind)
    unresolved = sum(asked.slots for asked in state.asked if not asked.is_answered)
    if unresolved:
        yield f"  {unresolved} jobs were asked for with no answer; they are looked for before more are"
    if not state.kinds:
        yield "  nothing is ready, and no job is there"


def _of_kind(kind: KindState) -> Iterator[str]:
    size = f" ({kind.size})" if kind.size else ""
    yield f"  {plain(kind.user) or 'nobody in particular'}{size}: {plain(kind.sentence)}"
    if kind.failures:
        yield f"    {kind.failures} failed in a row; the last: {plain(kind.failure)}"

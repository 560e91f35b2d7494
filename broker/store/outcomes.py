"""Python decides: what becomes of an item that got no result, in the form in which the scripts take it."""

import secrets
from typing import NamedTuple

from broker.domain.lifecycle import VERDICTS, Act, OverCode
from broker.domain.retry import Cause, Outcome, after_failure, after_give_back
from broker.store.records import Hash, bounded_sentence, counters, counters_text
from broker.wire.states import Verdict
from broker.wire.streams import StreamSpec

SLOT_BOUND = "slot"
"""What claim.lua notes as `run_bound` when the launcher's slot ends before the run limit."""
LATE_RESULT = "its result came late, and was accepted"
"""The sentence of a vm whose verdict was recorded before its guest's result came."""
_NO_RESULT = "the vm ended as completed, but no result of it was accepted"
BROKERS_WORD = {
    Verdict.COMPLETED: "the result was accepted",
    Verdict.ITEM_FAILED: "the guest told that its attempt failed",
    Verdict.RUN_TIMEOUT: "it ran longer than its stream's run limit",
    Verdict.GUEST_LOST: "its guest was not heard for a whole lease, while its launcher was",
    Verdict.DRAINED: "its launcher's slot ended while it ran",
    Verdict.CANCELLED: "its item was cancelled",
    Verdict.STOPPED_EARLY: _NO_RESULT,
    Verdict.SUPERSEDED: _NO_RESULT,
}
"""The sentence of a verdict that stands against the launcher's."""
LAUNCHER_SILENT = "launcher_silent"
"""Why the clock takes an item back whose launcher was not heard of."""
NODES_FAULTS = frozenset(
    {verdict.value for verdict, acts in VERDICTS.items() if acts.fault == "node"}
    | {OverCode.SLOT_ENDED, LAUNCHER_SILENT}
)
"""Codes of what happened, where the node or its launcher is to blame."""
_random = secrets.SystemRandom()


class Decision(NamedTuple):
    """Arguments that every script which takes an item back has in common.

    `counters` are those it was decided on; `cause` is the code of what happened, `code` that of the item's reason;
    `refunds`: its user is not charged for what the vm took, which the node is to blame for.
    """

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


def decide(act: Act, spec: StreamSpec, item: Hash, cause: Cause) -> Decision:
    """Decide what a fail or a give back does to the item."""
    seen = counters(item)
    if act is Act.FAIL:
        counts = "attempts"
        outcome = after_failure(spec.retry, seen._replace(attempts=seen.attempts + 1), cause, _random.random())
    else:
        counts = ""
        outcome = after_give_back(spec.retry, seen._replace(given_back=seen.given_back + 1), cause, _random.random())
    return decided(item, counts, outcome, cause, spec.keep_ms)


def leave_alone(item: Hash) -> Decision:
    """Decide that the item stays as it is."""
    return Decision(counters_text(counters(item)), "", "", 0, "", False, "", "", "", 0)


def slot_ended(node: str) -> Cause:
    """Return why an item comes back whose run the end of its launcher's slot cut short: no fault of its own."""
    return Cause(OverCode.SLOT_ENDED, f"the slot on {node} ended before it did")


def decided(item: Hash, counts: str, outcome: Outcome, cause: Cause, keep_ms: int) -> Decision:
    """Put an outcome into the form that the scripts take."""
    return Decision(
        counters=counters_text(counters(item)),
        counts=counts,
        to=outcome.state.value,
        delay_ms=outcome.delay_ms,
        cause=cause.code,
        refunds=cause.code in NODES_FAULTS,
        code=outcome.code,
        sentence=bounded_sentence(outcome.sentence),
        exit_code="" if cause.exit_code is None else str(cause.exit_code),
        keep_ms=keep_ms,
    )

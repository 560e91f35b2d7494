"""The life of an item as data: acts with their transitions, verdicts with the act each one means.

The store's scripts name in their headers the transitions they make; a test compares them with `ACTS`, and the property
test walks the same table. Nothing else decides a race.
"""

from enum import StrEnum
from typing import NamedTuple

from broker.wire.states import ItemState, Verdict

_DELAYED, _READY = ItemState.DELAYED, ItemState.READY
_DISPATCHED, _RUNNING = ItemState.DISPATCHED, ItemState.RUNNING
_DONE, _HELD, _CANCELLED = ItemState.DONE, ItemState.HELD, ItemState.CANCELLED


class Act(StrEnum):
    PUSH = "push"
    PROMOTE = "promote"
    DISPATCH = "dispatch"
    CLAIM = "claim"
    EXTEND = "extend"
    COMPLETE = "complete"
    FAIL = "fail"
    GIVE_BACK = "give_back"
    EXPIRE = "expire"
    END = "end"
    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"


class Counter(StrEnum):
    """The two bounded counters of an item: its own faults, and every dispatch."""

    ATTEMPTS = "attempts"
    BOOTS = "boots"


class Moves(NamedTuple):
    """What an act may do: `by` whom, from which states to which, and what it counts."""

    by: str
    transitions: dict[ItemState | None, frozenset[ItemState]]
    counts: Counter | None = None


ACTS: dict[Act, Moves] = {
    Act.PUSH: Moves("researcher", {None: frozenset({_READY, _DELAYED})}),
    Act.PROMOTE: Moves("clock", {_DELAYED: frozenset({_READY})}),
    Act.DISPATCH: Moves("launcher", {_READY: frozenset({_DISPATCHED})}, Counter.BOOTS),
    Act.CLAIM: Moves("guest", {_DISPATCHED: frozenset({_RUNNING})}),
    Act.EXTEND: Moves("guest, launcher", {_DISPATCHED: frozenset({_DISPATCHED}), _RUNNING: frozenset({_RUNNING})}),
    # Late settling: an item whose lease expired and that nobody has been given since may still be completed.
    Act.COMPLETE: Moves(
        "guest", {_RUNNING: frozenset({_DONE}), _READY: frozenset({_DONE}), _DELAYED: frozenset({_DONE})}
    ),
    Act.FAIL: Moves("guest, launcher by verdict", {_RUNNING: frozenset({_DELAYED, _HELD})}, Counter.ATTEMPTS),
    Act.GIVE_BACK: Moves(
        "launcher, guest",
        {
            _DISPATCHED: frozenset({_READY, _DELAYED, _HELD}),
            _RUNNING: frozenset({_READY, _DELAYED, _HELD}),
        },
    ),
    # The clock's act is a give back or a fail that the deadline asked for; a fail counts an attempt.
    Act.EXPIRE: Moves(
        "clock",
        {
            _DISPATCHED: frozenset({_READY, _DELAYED, _HELD}),
            _RUNNING: frozenset({_READY, _DELAYED, _HELD}),
        },
    ),
    Act.HOLD: Moves("researcher", {_DELAYED: frozenset({_HELD}), _READY: frozenset({_HELD})}),
    Act.RELEASE: Moves("researcher", {_HELD: frozenset({_READY})}),
    # At once, whoever has the item: its vm is told afterwards.
    Act.CANCEL: Moves(
        "researcher",
        {state: frozenset({_CANCELLED}) for state in (_DELAYED, _READY, _DISPATCHED, _RUNNING, _HELD)},
    ),
    # A verdict is recorded, and is a fail or a give back of an item that is still this dispatch's.
    Act.END: Moves(
        "launcher",
        {
            _DISPATCHED: frozenset({_READY, _DELAYED, _HELD}),
            _RUNNING: frozenset({_READY, _DELAYED, _HELD}),
        },
    ),
}


class VerdictActs(NamedTuple):
    """What a verdict does to an item that is still this dispatch's: None records the vm's end and nothing else."""

    while_dispatched: Act | None
    while_running: Act | None
    fault: str
    """Whose fault it was: item, machine, node, nobody."""


VERDICTS: dict[Verdict, VerdictActs] = {
    # Success is the guest's accepted completion, never a launcher's word: an item still running has not completed.
    Verdict.COMPLETED: VerdictActs(Act.GIVE_BACK, Act.FAIL, "nobody"),
    Verdict.ITEM_FAILED: VerdictActs(Act.GIVE_BACK, Act.FAIL, "item"),
    Verdict.RUN_TIMEOUT: VerdictActs(Act.GIVE_BACK, Act.FAIL, "item"),
    Verdict.DISK_EXCEEDED: VerdictActs(Act.GIVE_BACK, Act.FAIL, "item"),
    Verdict.VM_CRASHED: VerdictActs(Act.GIVE_BACK, Act.FAIL, "item"),
    Verdict.STOPPED_EARLY: VerdictActs(Act.GIVE_BACK, Act.FAIL, "item"),
    Verdict.GUEST_LOST: VerdictActs(Act.GIVE_BACK, Act.FAIL, "item"),
    Verdict.NEVER_CLAIMED: VerdictActs(Act.GIVE_BACK, Act.GIVE_BACK, "machine"),
    Verdict.IMAGE_ERROR: VerdictActs(Act.GIVE_BACK, Act.GIVE_BACK, "machine"),
    Verdict.XML_REFUSED: VerdictActs(Act.GIVE_BACK, Act.GIVE_BACK, "machine"),
    Verdict.HOST_ERROR: VerdictActs(Act.GIVE_BACK, Act.GIVE_BACK, "node"),
    Verdict.NETWORK_CUT: VerdictActs(Act.GIVE_BACK, Act.GIVE_BACK, "node"),
    Verdict.DRAINED: VerdictActs(Act.GIVE_BACK, Act.GIVE_BACK, "node"),
    Verdict.CANCELLED: VerdictActs(None, None, "nobody"),
    Verdict.SUPERSEDED: VerdictActs(None, None, "nobody"),
}


def act_of(verdict: Verdict, state: ItemState) -> Act | None:
    """Return what the broker does to an item in `state` when its own dispatch ended with `verdict`."""
    acts = VERDICTS[verdict]
    match state:
        case ItemState.DISPATCHED:
            return acts.while_dispatched
        case ItemState.RUNNING:
            return acts.while_running
        case _:
            return None


class OverCode(StrEnum):
    """Why an item left its vm, where the verdict of that vm follows from it: codes of an item's reason."""

    RUN_TIMEOUT = "run_timeout"
    SLOT_ENDED = "slot_ended"
    """Its run was cut short by the end of its launcher's slot, not by the stream's limit."""
    LEASE_EXPIRED = "lease_expired"
    """The guest went silent while its launcher was there."""


def standing_verdict(said: Verdict, *, is_own: bool, over: str | None, code: str | None) -> Verdict:
    """Return the verdict that is recorded: what ended the item's stay, where that is known, else its launcher's word.

    The guest's accepted word, the broker's clock and a person's cancel come before what the launcher saw of the vm's
    end afterwards, which then says nothing new. A success stands on an accepted completion and nothing else.

    Args:
        said: what the launcher says.
        is_own: the item is still this dispatch's.
        over: the act by which the item left this dispatch, when it has.
        code: why it did, as the reason of the item that came of it.
    """
    match over:
        case Act.COMPLETE:
            return Verdict.COMPLETED
        case Act.CANCEL:
            return Verdict.CANCELLED
        case Act.FAIL:
            return Verdict.RUN_TIMEOUT if code == OverCode.RUN_TIMEOUT else Verdict.ITEM_FAILED
        case Act.EXPIRE if code == OverCode.RUN_TIMEOUT:
            return Verdict.RUN_TIMEOUT
        case Act.EXPIRE | Act.GIVE_BACK if code == OverCode.SLOT_ENDED:
            return Verdict.DRAINED
        case Act.EXPIRE if code == OverCode.LEASE_EXPIRED:
            # Only who was on the node can tell a guest that hung from one that could not be heard.
            return said if said is Verdict.NETWORK_CUT else Verdict.GUEST_LOST
    if said is not Verdict.COMPLETED:
        return said
    return Verdict.STOPPED_EARLY if is_own else Verdict.SUPERSEDED

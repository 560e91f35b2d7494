import pytest

from broker.domain.lifecycle import ACTS, VERDICTS, Act, act_of, standing_verdict
from broker.wire.states import ItemState, Verdict


def test_every_verdict_says_what_it_does_by_an_act_that_may_do_it() -> None:
    assert set(VERDICTS) == set(Verdict)
    for verdict in Verdict:
        for state in (ItemState.DISPATCHED, ItemState.RUNNING):
            act = act_of(verdict, state)
            assert act is None or state in ACTS[act].transitions, verdict


def test_an_end_may_do_whatever_its_verdict_may_ask_for() -> None:
    for verdict in Verdict:
        for state in (ItemState.DISPATCHED, ItemState.RUNNING):
            if (act := act_of(verdict, state)) is not None:
                assert ACTS[act].transitions[state] <= ACTS[Act.END].transitions[state]


def test_no_verdict_moves_an_item_that_is_settled_or_waiting() -> None:
    still = set(ItemState) - {ItemState.DISPATCHED, ItemState.RUNNING}
    assert {act_of(verdict, state) for verdict in Verdict for state in still} == {None}


@pytest.mark.parametrize(
    ("said", "is_own", "over", "code", "stands"),
    [
        (Verdict.COMPLETED, False, Act.COMPLETE, "", Verdict.COMPLETED),
        (Verdict.COMPLETED, True, None, None, Verdict.STOPPED_EARLY),
        (Verdict.COMPLETED, False, Act.EXPIRE, "launcher_silent", Verdict.SUPERSEDED),
        # A vm that powers itself off after its guest's accepted word looks to its launcher like one that stopped early.
        (Verdict.STOPPED_EARLY, False, Act.COMPLETE, "", Verdict.COMPLETED),
        (Verdict.STOPPED_EARLY, False, Act.FAIL, "program_failed", Verdict.ITEM_FAILED),
        (Verdict.STOPPED_EARLY, False, Act.FAIL, "run_timeout", Verdict.RUN_TIMEOUT),
        (Verdict.VM_CRASHED, True, None, None, Verdict.VM_CRASHED),
        (Verdict.SUPERSEDED, False, Act.EXPIRE, "run_timeout", Verdict.RUN_TIMEOUT),
        (Verdict.SUPERSEDED, False, Act.EXPIRE, "lease_expired", Verdict.GUEST_LOST),
        (Verdict.NETWORK_CUT, False, Act.EXPIRE, "lease_expired", Verdict.NETWORK_CUT),
        (Verdict.VM_CRASHED, False, Act.EXPIRE, "launcher_silent", Verdict.VM_CRASHED),
        (Verdict.SUPERSEDED, False, Act.EXPIRE, "slot_ended", Verdict.DRAINED),
        (Verdict.STOPPED_EARLY, False, Act.GIVE_BACK, "slot_ended", Verdict.DRAINED),
        (Verdict.DRAINED, False, Act.GIVE_BACK, "program_failed", Verdict.DRAINED),
        (Verdict.VM_CRASHED, False, Act.CANCEL, "cancelled", Verdict.CANCELLED),
        # Of an older broker's records no code is known.
        (Verdict.SUPERSEDED, False, Act.EXPIRE, None, Verdict.SUPERSEDED),
    ],
)
def test_what_ended_the_items_stay_stands_before_its_launchers_word(
    said: Verdict, is_own: bool, over: Act | None, code: str | None, stands: Verdict
) -> None:
    assert standing_verdict(said, is_own=is_own, over=over, code=code) == stands

"""How many launcher jobs are asked for, and which are taken away."""

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.batch.planning import FAILURES_IN_A_ROW, Kind, Limits, Situation, plan

ALICE, BOB = Kind("alice", "small"), Kind("bob", "small")
WIDE = Limits(hard=1_000, soft=1_000, queued=1_000)


def asked(situation: Situation, limits: Limits = WIDE) -> int:
    return plan({ALICE: situation}, limits)[ALICE].ask


def ids(count: int, name: str = "q") -> tuple[str, ...]:
    return tuple(f"{name}{number}" for number in range(count))


def test_a_third_of_what_is_missing_is_asked_for_rounded_up() -> None:
    assert asked(Situation(ready=30)) == 10
    assert asked(Situation(ready=10)) == 4
    assert asked(Situation(ready=1)) == 1
    assert asked(Situation(ready=0)) == 0


def test_jobs_that_come_and_launchers_with_room_are_not_asked_for_again() -> None:
    there = Situation(ready=30, queued=ids(9), starting=3, idle=2, elsewhere=1, running=5)
    assert asked(there) == 5
    assert asked(Situation(ready=12, queued=ids(12))) == 0


def test_a_request_without_an_answer_counts_as_if_its_jobs_were_there() -> None:
    assert asked(Situation(ready=12, unresolved=12)) == 0


def test_a_job_that_holds_several_vms_serves_as_many_items() -> None:
    assert asked(Situation(ready=24, vms=8)) == 1
    assert asked(Situation(ready=80, vms=8, queued=ids(1))) == 3


def test_half_is_asked_for_beyond_the_soft_limit_and_nothing_at_the_hard_one() -> None:
    many = Situation(ready=60, running=50)
    assert asked(many, Limits(hard=1_000, soft=51, queued=1_000)) == 20
    assert asked(many, Limits(hard=1_000, soft=50, queued=1_000)) == 10
    assert asked(many, Limits(hard=53, soft=53, queued=1_000)) == 3
    assert asked(many, Limits(hard=50, soft=50, queued=1_000)) == 0


def test_beyond_the_soft_limit_the_one_job_that_somebody_misses_is_still_asked_for() -> None:
    assert asked(Situation(ready=1, running=50), Limits(hard=1_000, soft=10, queued=1_000)) == 1


def test_no_more_jobs_wait_than_may() -> None:
    assert asked(Situation(ready=100, queued=ids(8)), Limits(hard=1_000, soft=1_000, queued=10)) == 2


def test_what_the_limits_leave_is_divided_between_users() -> None:
    decisions = plan({ALICE: Situation(ready=900), BOB: Situation(ready=3)}, Limits(hard=10, soft=100, queued=100))
    assert {kind: decision.ask for kind, decision in decisions.items()} == {ALICE: 9, BOB: 1}
    scarce = plan({ALICE: Situation(ready=900), BOB: Situation(ready=900)}, Limits(hard=3, soft=100, queued=100))
    assert {kind: decision.ask for kind, decision in scarce.items()} == {ALICE: 2, BOB: 1}


def test_queued_jobs_beyond_the_need_are_taken_away_at_the_second_look_the_newest_first() -> None:
    first = plan({ALICE: Situation(ready=2, queued=("old", "middle", "new"))}, WIDE)[ALICE]
    assert (first.remove, first.too_many) == ((), 1)
    second = plan({ALICE: Situation(ready=2, queued=("old", "middle", "new"), too_many=1)}, WIDE)[ALICE]
    assert (second.remove, second.too_many) == (("new",), 0)


def test_one_look_that_needs_them_again_spares_queued_jobs() -> None:
    needed = plan({ALICE: Situation(ready=3, queued=ids(3), too_many=1)}, WIDE)[ALICE]
    assert (needed.remove, needed.too_many) == ((), 0)


def test_after_failures_in_a_row_one_job_at_a_time_is_tried() -> None:
    failed = Situation(ready=90, failures=FAILURES_IN_A_ROW)
    assert asked(failed) == 1
    assert asked(Situation(ready=90, failures=FAILURES_IN_A_ROW, queued=ids(1))) == 0
    assert asked(Situation(ready=90, failures=FAILURES_IN_A_ROW, starting=1, running=1)) == 0


def test_each_decision_says_what_it_was_made_of() -> None:
    limits = Limits(hard=40, soft=30, queued=40)
    decision = plan({ALICE: Situation(ready=40, queued=ids(4), starting=2, idle=1, running=32)}, limits)[ALICE]
    assert decision.sentence == (
        "40 ready, 4 queued, 2 starting, 1 with room; 33 missing, a third is 11; half of that beyond the soft limit "
        "(36 of 30); 4 by the limits (36 of 40 jobs are there, 4 of 40 that may wait); asks for 4"
    )


situations = st.builds(
    Situation,
    ready=st.integers(0, 500),
    vms=st.integers(1, 8),
    queued=st.integers(0, 40).map(ids),
    unresolved=st.integers(0, 5),
    starting=st.integers(0, 20),
    idle=st.integers(0, 40),
    elsewhere=st.integers(0, 40),
    running=st.integers(0, 60),
    failures=st.integers(0, 5),
    too_many=st.integers(0, 1),
)
some_limits = st.builds(Limits, hard=st.integers(1, 200), soft=st.integers(1, 200), queued=st.integers(1, 100))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([Kind(name, "s") for name in "abcdef"]), situations), some_limits)
def test_never_more_than_the_items_need_nor_than_the_limits_allow(there: dict[Kind, Situation], limits: Limits) -> None:
    decisions = plan(there, limits)
    total = sum(len(each.queued) + each.unresolved + each.running for each in there.values())
    waiting = sum(len(each.queued) + each.unresolved for each in there.values())
    new = sum(decision.ask for decision in decisions.values())
    assert new == 0 or (total + new <= limits.hard and waiting + new <= limits.queued)
    for kind, each in there.items():
        decision = decisions[kind]
        coming = len(each.queued) + each.unresolved + each.starting
        assert decision.ask == 0 or (decision.ask + coming - 1) * each.vms < each.ready
        assert set(decision.remove) <= set(each.queued)
        assert not (decision.ask and decision.remove)
        left = len(each.queued) - len(decision.remove) + each.unresolved + each.starting
        if decision.remove:
            assert left * each.vms + each.idle + each.elsewhere >= each.ready


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 50))
def test_looks_that_follow_each_other_reach_what_is_needed_and_stay_there(ready: int, hard: int) -> None:
    limits = Limits(hard=hard, soft=max(1, hard * 3 // 4), queued=hard)
    queued: tuple[str, ...] = ()
    for look in range(200):
        decision = plan({ALICE: Situation(ready=ready, queued=queued)}, limits)[ALICE]
        assert not decision.remove
        queued += ids(decision.ask, f"{look}-")
    assert len(queued) == min(ready, hard)

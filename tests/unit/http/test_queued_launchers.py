"""What an item waits for in a batch system, in one sentence."""

import pytest

from broker.http.prospects import with_jobs
from broker.http.queued_launchers import awaited
from broker.store import KnownJobs
from broker.wire.items import Reason
from broker.wire.jobs import BatchKind, JobsReport, JobsView

NO_LAUNCHER = Reason(code="no_launcher", sentence="no launcher has been heard of lately: start one, `launcher run`")
NO_SLOT = "none of its 2 slots advertises CAN_RUN_VIRTUAL_MACHINE = true"


def known(age_ms: int = 0, **fields: object) -> KnownJobs:
    given: dict[str, object] = {"kind": BatchKind.HTCONDOR, "place": "ap@pool.test", **fields}
    report = JobsReport(**given)  # type: ignore[arg-type] # a test names fields of a JobsReport
    return KnownJobs(JobsView(jobs="local/vmb-1", told_at="", report=report), "queue.dispatch", age_ms)


def told(*each: KnownJobs) -> tuple[str, str]:
    reason = awaited(each)
    assert reason is not None
    return reason.code, reason.sentence


def test_queued_jobs_are_told_with_where_since_when_and_why() -> None:
    one = known(queued=1, queued_since="2026-11-28T07:05:27Z", sentence=NO_SLOT)
    assert told(one) == (
        "jobs_queued",
        f"1 launcher job is queued in HTCondor at ap@pool.test since 2026-11-28T07:05:27Z: {NO_SLOT}",
    )


def test_what_was_told_long_ago_is_told_as_that() -> None:
    code, sentence = told(known(age_ms=840_000, kind=BatchKind.SLURM, place="hpc", queued=1_200))
    assert (code, sentence) == ("jobs_queued", "1,200 launcher jobs are queued in Slurm at hpc (told 14 min ago)")


def test_several_places_are_told_together_with_the_reason_of_the_largest() -> None:
    few, many = known(queued=2, sentence="few"), known(queued=5, running=3, place="other", sentence=NO_SLOT)
    assert told(few, many)[1] == f"7 launcher jobs are queued in HTCondor at other and 1 other place: {NO_SLOT}"


def test_jobs_that_have_just_started_are_about_to_be_heard_of() -> None:
    code, sentence = told(known(running=2))
    assert (code, sentence) == (
        "jobs_starting",
        "2 launcher jobs have started in HTCondor at ap@pool.test and were not heard of yet",
    )
    assert (
        told(known(running=1))[1] == "1 launcher job has started in HTCondor at ap@pool.test and was not heard of yet"
    )
    assert awaited([known(age_ms=300_000, running=2)]) is None


def test_held_jobs_are_told_with_why_they_were_set_aside() -> None:
    assert told(known(held=3, sentence="cannot transfer the bundle")) == (
        "jobs_held",
        "3 launcher jobs are held in HTCondor at ap@pool.test: cannot transfer the bundle",
    )


def test_without_jobs_there_is_nothing_to_tell() -> None:
    assert awaited([]) is None
    assert awaited([known()]) is None


JOBS = "1 launcher job is queued in HTCondor at ap@pool.test"


def test_jobs_that_are_queued_are_why_no_launcher_is_there() -> None:
    assert with_jobs(NO_LAUNCHER, [known(queued=1)]) == Reason(
        code="jobs_queued", sentence=f"no launcher has been heard of lately; {JOBS}"
    )


@pytest.mark.parametrize(("word", "code"), [("held", "jobs_held"), ("running", "jobs_starting")])
def test_jobs_that_are_held_or_have_just_started_are_why_no_launcher_is_there(word: str, code: str) -> None:
    reason = with_jobs(NO_LAUNCHER, [known(**{word: 1})])
    assert reason.code == code
    assert reason.sentence.startswith("no launcher has been heard of lately; 1 launcher job ")


def test_without_jobs_that_may_come_it_is_told_how_to_start_a_launcher() -> None:
    assert with_jobs(NO_LAUNCHER, []) == NO_LAUNCHER
    assert with_jobs(NO_LAUNCHER, [known(age_ms=300_000, running=1)]) == NO_LAUNCHER


@pytest.mark.parametrize("code", ["launchers_busy", "needs_unmet", "nodes_not_well", "not_served"])
def test_a_reason_that_more_launchers_may_mend_keeps_its_code_and_tells_of_them(code: str) -> None:
    assert with_jobs(Reason(code=code, sentence="s"), [known(queued=1)]) == Reason(code=code, sentence=f"s; {JOBS}")


@pytest.mark.parametrize("code", ["launchers_busy", "needs_unmet", "nodes_not_well"])
def test_jobs_whose_launchers_may_be_those_that_are_there_are_not_told_to_be_awaited(code: str) -> None:
    reason = Reason(code=code, sentence="s")
    assert with_jobs(reason, [known(running=5)]) == reason
    held = with_jobs(reason, [known(running=5, held=1)])
    assert held == Reason(code=code, sentence="s; 1 launcher job is held in HTCondor at ap@pool.test")


def test_jobs_that_have_started_are_awaited_while_those_that_are_there_serve_others() -> None:
    reason = with_jobs(Reason(code="not_served", sentence="s"), [known(running=1)])
    assert reason.code == "not_served"
    assert reason.sentence.endswith("1 launcher job has started in HTCondor at ap@pool.test and was not heard of yet")


@pytest.mark.parametrize("code", ["machine_missing", "canaries_out", "its_turn_comes"])
def test_a_reason_that_no_launcher_mends_stays_as_it_is(code: str) -> None:
    reason = Reason(code=code, sentence="s")
    assert with_jobs(reason, [known(queued=1)]) == reason
    assert with_jobs(reason, []) == reason

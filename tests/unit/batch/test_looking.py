"""What follows of a look: which credentials go, and which stay."""

import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from broker.client.login import Login
from broker.wire.jobs import BatchKind
from launcher.batch.job import Job, JobState
from launcher.batch.looking import Seen, credential_of, look, sweep
from launcher.batch.provision_state import held, is_held
from launcher.batch.submission import Record, Submission, Submissions
from tests.unit.batch.fakes import FakeSystem
from tests.unit.batch.orders import BROKER

OLD_S = int(time.time()) - 3_600
RECORD = Record(kind=BatchKind.SLURM, broker=BROKER, made_s=OLD_S, slots=1, place="hpc")


@pytest.fixture
def submissions(tmp_path: Path) -> Submissions:
    return Submissions(tmp_path / "batch")


def made(submissions: Submissions, **changes: object) -> Submission:
    submission = submissions.make(msgspec.structs.replace(RECORD, **changes))
    submission.write_credential(Login(BROKER, "secret"), None)
    return submission


def seen(*jobs: Job, place: str = "hpc", trouble: str = "") -> Seen:
    return Seen(kind=BatchKind.SLURM, place=place, jobs=list(jobs), trouble=trouble)


def job_of(submission: Submission, state: JobState = JobState.RUNNING) -> Job:
    return Job(id="7", tag=submission.tag, state=state)


def test_a_credential_goes_when_no_job_is_there_any_more(submissions: Submissions) -> None:
    over, alive, young = made(submissions), made(submissions), made(submissions, made_s=int(time.time()))
    sweep(submissions, seen(job_of(alive), job_of(over, JobState.ENDED)))
    assert [each.token.exists() for each in (over, alive, young)] == [False, True, True]
    assert over.record().ended_s is not None


def test_a_look_at_another_place_or_in_which_something_failed_ends_nothing(submissions: Submissions) -> None:
    submission = made(submissions)
    sweep(submissions, seen(place="another cluster"))
    sweep(submissions, seen(trouble="slurmctld does not answer"))
    sweep(submissions, replace(seen(), kind=BatchKind.PBS))
    assert submission.token.exists()


def test_a_provisioners_credential_stays_while_it_is_at_work(submissions: Submissions) -> None:
    submission = made(submissions, is_provisioner=True)
    with held(submission.folder):
        assert is_held(submission.folder)
        sweep(submissions, seen())
        assert submission.token.exists()
    assert not is_held(submission.folder)
    sweep(submissions, seen())
    assert not submission.token.exists()


async def test_a_batch_system_that_is_away_is_told_with_what_is_known_without_it() -> None:
    system = FakeSystem()
    system.is_away = True
    found = await look(system)
    assert (found.trouble, found.jobs) == ("the batch system does not answer", [])


def test_a_submission_by_hand_speaks_with_its_own_broker_and_a_provisioner_for_itself(submissions: Submissions) -> None:
    by_hand = credential_of(made(submissions))
    assert by_hand is not None
    assert by_hand.login == Login(BROKER, "secret")
    assert credential_of(made(submissions, is_provisioner=True)) is None
    ended = made(submissions)
    ended.end(OLD_S)
    assert credential_of(ended) is None

"""What HTCondor is told of a job, and what its event log tells of jobs."""

import re
from pathlib import Path

import pytest

from launcher.batch.condor_events import followed
from launcher.batch.errors import Refused
from launcher.batch.htcondor import describe
from launcher.batch.job import Job, JobState
from launcher.batch.submission import Submission
from launcher.images.public_names import image_attribute
from tests.unit.batch.orders import TAG, request

SUBMISSION = Submission(Path("/home/alice/batch", TAG))
SCRIPT = SUBMISSION.folder / "job-1.sh"
DIGEST = "sha256:" + "a" * 64


def described(slots: int = 1, images: tuple[str, ...] = (), **changes: object) -> dict[str, str]:
    return describe(request(slots, images, **changes), SUBMISSION, SCRIPT)


def test_a_job_wants_a_slot_that_can_run_virtual_machines_and_says_that_it_does() -> None:
    told = described()
    assert told["requirements"] == "(CAN_RUN_VIRTUAL_MACHINE == TRUE)"
    assert told["+RequiresVirtualization"] == "TRUE"
    more = described(requirements='GLIDEIN_Site == "Renci"')
    assert more["requirements"] == '(CAN_RUN_VIRTUAL_MACHINE == TRUE) && (GLIDEIN_Site == "Renci")'


def test_the_credential_is_a_file_that_travels_encrypted_and_nothing_comes_back() -> None:
    told = described()
    assert str(SUBMISSION.token) in told["transfer_input_files"].split(",")
    assert told["encrypt_input_files"] == "token"
    assert told["transfer_output_files"] == ""
    assert "environment" not in told
    assert told["arguments"] == "$(ClusterId).$(ProcId)"


def test_a_bundle_travels_and_a_launcher_on_the_nodes_does_not(tmp_path: Path) -> None:
    told = described(launcher=None, bundle=tmp_path / "vmbroker.tar.gz")
    assert told["transfer_input_files"].split(",")[-1] == str(tmp_path / "vmbroker.tar.gz")
    assert told["initialdir"] == str(SUBMISSION.folder)


def test_the_time_to_drain_and_the_longest_run_are_asked_for() -> None:
    told = described(drain_s=45, runtime_s=7_200)
    assert (told["job_max_vacate_time"], told["allowed_job_duration"], told["kill_sig"]) == ("65", "7200", "SIGTERM")


def test_nodes_that_hold_an_image_come_first() -> None:
    assert described(images=(DIGEST,))["rank"] == f"({image_attribute(DIGEST)} =?= true)"
    assert "rank" not in described()


def test_the_user_whose_items_it_runs_is_charged() -> None:
    told = described(users=("alice",), accounting=("group_vmbroker", "alice"))
    assert (told["accounting_group"], told["accounting_group_user"]) == ("group_vmbroker", "alice")
    assert told["+VmbrokerUser"] == '"alice"'


_OWNED = (
    *("transfer_input_files", "Requirements", "executable", "transfer_output_files", "encrypt_input_files"),
    *("+VmbrokerTag", "MY.VmbrokerKey", "allowed_job_duration"),
)


@pytest.mark.parametrize("name", _OWNED)
def test_an_option_that_would_replace_what_a_launcher_job_is_made_of_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=re.escape(name.lower())):
        described(options=((name, "x"),))


def test_other_options_reach_the_submit_description() -> None:
    assert described(options=(("+ProjectName", '"Frames"'),))["+ProjectName"] == '"Frames"'


def event(kind: str, at_s: int, **more: object) -> dict[str, object]:
    return {"id": "7.0", "type": kind, "at_s": at_s, **more}


SUBMIT = event("SUBMIT", 10, LogNotes=f"VmbrokerTag={TAG} VmbrokerKey=k VmbrokerShape=s VmbrokerUser=alice")


def after(*events: dict[str, object]) -> Job:
    jobs: dict[str, Job] = {}
    for each in (SUBMIT, *events):
        jobs |= followed(jobs, TAG, [each])
    assert followed({}, TAG, [SUBMIT, *events]) == jobs, "one reading and several give the same"
    return jobs["7.0"]


def test_a_log_tells_whose_a_job_is() -> None:
    job = after()
    assert (job.state, job.user, job.key, job.shape, job.submitted_s) == (JobState.QUEUED, "alice", "k", "s", 10)
    assert job.launcher == f"{TAG}-7.0"


def test_a_log_tells_that_a_job_runs_and_how_it_ended() -> None:
    running = after(event("EXECUTE", 20, SlotName="slot1@node"))
    assert (running.state, running.where, running.started_s) == (JobState.RUNNING, "slot1@node", 20)
    well = after(event("EXECUTE", 20), event("JOB_TERMINATED", 30, TerminatedNormally=True, ReturnValue=0))
    assert (well.state, well.exit_status, well.ended_s) == (JobState.ENDED, 0, 30)
    badly = after(event("EXECUTE", 20), event("JOB_TERMINATED", 30, TerminatedNormally=True, ReturnValue=1))
    assert badly.exit_status == 1
    killed = after(event("EXECUTE", 20), event("JOB_TERMINATED", 30, TerminatedNormally=False, TerminatedBySignal=9))
    assert killed.exit_status == -9


def test_a_job_that_was_evicted_is_queued_again_and_one_that_was_removed_is_not() -> None:
    evicted = after(event("EXECUTE", 20), event("JOB_EVICTED", 30, Reason="vacated"))
    assert (evicted.state, evicted.where) == (JobState.QUEUED, "")
    removed = after(event("EXECUTE", 20), event("JOB_EVICTED", 30), event("JOB_ABORTED", 30, Reason="by the user"))
    assert (removed.state, removed.exit_status, removed.reason) == (JobState.ENDED, None, "by the user")


def test_a_held_job_has_its_reason_and_a_released_one_is_queued_again() -> None:
    held = after(event("JOB_HELD", 20, HoldReason="cannot transfer"))
    assert (held.state, held.reason) == (JobState.HELD, "cannot transfer")
    assert after(event("JOB_HELD", 20), event("JOB_RELEASED", 30)).state is JobState.QUEUED


def test_what_the_log_tells_of_other_jobs_is_passed_over() -> None:
    assert followed({}, TAG, [event("EXECUTE", 20)]) == {}

"""What Slurm and PBS are told of a job, and how their answers are read."""

import time
from pathlib import Path

import pytest

from launcher.batch import pbs, slurm
from launcher.batch.job import JobState
from launcher.batch.submission import Submission
from tests.unit.batch.orders import TAG, request

SUBMISSION = Submission(Path("/shared/batch", TAG))


def directives(script: str, prefix: str) -> list[str]:
    return [line.removeprefix(f"{prefix} ") for line in script.splitlines() if line.startswith(f"{prefix} ")]


def test_slurm_is_told_of_the_constraint_the_sizes_and_the_signal_for_the_script_alone() -> None:
    asked = request(4, vcpus=2, memory_mib=4_096, runtime_s=5_430, drain_s=30, constraint="virt", queue="night")
    told = directives(slurm.batch_script(asked, SUBMISSION), "#SBATCH")
    assert {
        "--constraint=virt",
        "--partition=night",
        "--cpus-per-task=2",
        "--mem=4096M",
        "--time=91",
        "--signal=B:TERM@50",
        "--array=1-4",
        "--export=NIL",
        f"--job-name={TAG}",
        f"--output=/shared/batch/{TAG}/log/%A_%a.log",
    } <= set(told)


def test_slurm_gets_further_options_in_its_own_words() -> None:
    asked = request(options=(("qos", "low"), ("exclusive", "")))
    told = directives(slurm.batch_script(asked, SUBMISSION), "#SBATCH")
    assert {"--qos=low", "--exclusive"} <= set(told)
    assert not [line for line in told if line.startswith(("--array", "--constraint", "--partition"))]


def test_directives_stand_before_the_first_command_where_batch_systems_look_for_them() -> None:
    for script in (slurm.batch_script(request(), SUBMISSION), pbs.batch_script(request(), SUBMISSION)):
        lines = script.splitlines()
        first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
        assert lines[0] == "#!/bin/sh"
        assert all(not line.startswith(("#SBATCH", "#PBS")) for line in lines[first_command:])


def test_pbs_is_told_of_queue_node_and_times() -> None:
    asked = request(vcpus=2, memory_mib=4_096, runtime_s=90_061, queue="virt", options=(("A", "frames"),))
    told = directives(pbs.batch_script(asked, SUBMISSION), "#PBS")
    assert {"-q virt", "-l nodes=1:ppn=2", "-l mem=4096mb", "-l walltime=25:01:01", f"-N {TAG}", "-A frames"} <= set(
        told
    )
    assert "-l nodes=1:ppn=1:virt" in directives(pbs.batch_script(request(constraint="virt"), SUBMISSION), "#PBS")


@pytest.mark.parametrize(
    ("state", "reason", "read"),
    [
        ("PENDING", "Resources", JobState.QUEUED),
        ("PENDING", "JobHeldUser", JobState.HELD),
        ("RUNNING", "None", JobState.RUNNING),
        ("COMPLETING", "None", JobState.ENDING),
        ("NODE_FAIL", "None", JobState.ENDED),
        ("STOPPED", "None", JobState.RUNNING),
        ("A_STATE_OF_A_LATER_SLURM", "None", JobState.RUNNING),
    ],
)
def test_slurms_states_are_read(state: str, reason: str, read: JobState) -> None:
    line = f"12_3|{TAG}|{state}|1795849527|1795849530|node7|key:k,user:alice,shape:s|{reason}"
    job = slurm._job(line)
    assert (job.id, job.tag, job.state, job.key, job.user, job.shape) == ("12_3", TAG, read, "k", "alice", "s")
    assert job.submitted_s == 1_795_849_527
    assert job.where == ("node7" if read is JobState.RUNNING else "")


@pytest.mark.parametrize(("state", "status"), [("COMPLETED", 0), ("FAILED", 1), ("CANCELLED", None), ("TIMEOUT", 1)])
def test_slurms_ends_are_told_apart(state: str, status: int | None) -> None:
    assert slurm._job(f"12|{TAG}|{state}|1|2|node7|(null)|None").exit_status == status


TORQUE = f"""\
Job Id: 77.pbs.example.org
    Job_Name = {TAG}
    Job_Owner = alice@login.example.org
    job_state = R
    queue = virt
    server = pbs.example.org
    qtime = Sat Nov 28 07:25:12 2026
    exec_host = node17/0
    Variable_List = PBS_O_QUEUE=virt,PBS_O_HOME=/home/alice,
	PBS_O_WORKDIR=/shared/batch,PBS_O_HOST=login.example.org

Job Id: 78.pbs.example.org
    Job_Name = {TAG}
    Job_Owner = alice@login.example.org
    job_state = Q
    comment = Not Running: not enough virt nodes
"""
OF_SLURM = f"""\
Job Id:\t9
\tJob_Name = {TAG}
\tJob_Owner = alice@localhost
\tjob_state = C
\tqueue = virt
\tqtime = Sat Nov 28 07:25:37 2026
\texec_host = node/1

"""


def test_qstats_full_form_is_read_as_torque_and_as_slurm_write_it() -> None:
    running, queued = (pbs._job(number, told["job_name"], told) for number, told in pbs._records(TORQUE))
    assert (running.id, running.state, running.where) == ("77.pbs.example.org", JobState.RUNNING, "node17/0")
    assert (queued.state, queued.reason) == (JobState.QUEUED, "Not Running: not enough virt nodes")
    assert queued.where == ""
    (ended,) = (pbs._job(number, told["job_name"], told) for number, told in pbs._records(OF_SLURM))
    assert (ended.id, ended.state, ended.exit_status) == ("9", JobState.ENDED, None)


@pytest.mark.parametrize(("zone", "offset_s"), [("UTC0", 0), ("XYZ-5:30", -19_800)])
def test_the_time_of_a_pbs_server_is_this_machines(zone: str, offset_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (number, told), *_ = pbs._records(TORQUE)
    with monkeypatch.context() as changed:
        changed.setenv("TZ", zone)
        time.tzset()
        submitted_s = pbs._job(number, TAG, told).submitted_s
    time.tzset()
    assert submitted_s == 1_795_850_712 + offset_s


def test_a_jobs_key_is_read_of_its_output_however_the_line_is_cut() -> None:
    record = """\
Job Id: 9.pbs
    Job_Name = vmb-0123abcd
    Output_Path = login.example.org:/shared/home/alice/state/vmbroker/batch/vmb-0
	123abcd/log/00ff00ff00ff00ff-12.log
    job_state = Q
"""
    ((number, told),) = pbs._records(record)
    assert pbs._job(number, TAG, told).key == "00ff00ff00ff00ff"


def test_the_launcher_of_a_job_has_a_name_that_the_broker_takes() -> None:
    (number, told), *_ = pbs._records(TORQUE.replace("77.pbs", "77[3].pbs"))
    assert pbs._job(number, TAG, told).launcher == f"{TAG}-77_3"

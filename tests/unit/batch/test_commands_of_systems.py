"""Slurm's and PBS's own commands, stood in for by scripts that fail in the ways that the real ones do."""

import os
from pathlib import Path

import pytest

from broker.wire.jobs import BatchKind
from launcher.batch.errors import Away, Refused
from launcher.batch.pbs import Pbs
from launcher.batch.slurm import Slurm
from launcher.batch.submission import Record, Submissions
from tests.unit.batch.orders import BROKER, TAG, request

COUNTED = """\
#!/bin/sh
count=$(($(cat "$0.count" 2>/dev/null || echo 0) + 1))
echo $count >"$0.count"
"""


class Programs:
    """A folder of programs that is all of the PATH but the system's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(COUNTED + script)
        path.chmod(0o755)

    def count(self, name: str) -> int:
        return int((self.folder / f"{name}.count").read_text())


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return Programs(folder)


@pytest.fixture
def submissions(tmp_path: Path) -> Submissions:
    found = Submissions(tmp_path / "batch")
    found.make(Record(kind=BatchKind.PBS, broker=BROKER, made_s=0), TAG)
    return found


async def test_jobs_that_were_brought_in_before_qsub_failed_are_told(
    programs: Programs, submissions: Submissions
) -> None:
    programs.put(
        "qsub", 'if [ $count -gt 2 ]; then echo "qsub: would exceed limit" >&2; exit 38; fi; echo $count.pbs\n'
    )
    with pytest.raises(Refused, match=r"after 2 jobs \(1.pbs to 2.pbs\), no more: `qsub` ended with status 38") as told:
        await Pbs(submissions).submit(request(5))
    assert told.value.submitted == ("1.pbs", "2.pbs")
    assert not list(submissions.of(TAG).folder.glob("*.pbs")), "the scripts are gone"


async def test_more_jobs_than_an_array_takes_are_several_arrays(programs: Programs, submissions: Submissions) -> None:
    programs.put("sbatch", "echo $((count * 10))\n")
    ids = await Slurm(submissions).submit(request(2_001))
    assert (len(ids), len(set(ids)), programs.count("sbatch")) == (2_001, 2_001, 3)
    assert (ids[0], ids[999], ids[1_000], ids[-1]) == ("10_1", "10_1000", "20_1", "30")


async def test_a_server_that_does_not_answer_is_away_and_one_that_refuses_is_not(
    programs: Programs, submissions: Submissions
) -> None:
    programs.put("sbatch", 'echo "sbatch: error: Unable to contact slurm controller (connect failure)" >&2; exit 1\n')
    with pytest.raises(Away, match="Unable to contact slurm controller"):
        await Slurm(submissions).submit(request())
    programs.put("sbatch", 'echo "sbatch: error: Invalid feature specification" >&2; exit 1\n')
    with pytest.raises(Refused, match="Invalid feature specification"):
        await Slurm(submissions).submit(request())


async def test_a_command_that_hangs_is_ended_at_its_deadline(
    programs: Programs, submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.put("qstat", 'echo $$ >"$0.pid"; exec sleep 60\n')
    monkeypatch.setattr("launcher.batch.pbs._CALL_S", 0.5)
    with pytest.raises(Away, match=r"`qstat` did not end within 0.5 s"):
        await Pbs(submissions).jobs()
    pid = int((programs.folder / "qstat.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_what_is_not_installed_is_told_with_where_to_run_this(
    programs: Programs, submissions: Submissions
) -> None:
    with pytest.raises(Refused, match="qsub, qstat and qdel are not installed here"):
        await Pbs(submissions).jobs()
    with pytest.raises(Refused, match="sbatch, squeue and scancel are not installed here"):
        await Slurm(submissions).submit(request())


async def test_a_job_that_ended_meanwhile_is_no_fault_of_its_removal(
    programs: Programs, submissions: Submissions
) -> None:
    programs.put("qsub", "echo 7.pbs\n")
    programs.put("qdel", 'echo "qdel: Unknown Job Id 7.pbs" >&2; exit 170\n')
    system = Pbs(submissions)
    programs.put(
        "qstat",
        f"printf 'Job Id: 7.pbs\\n    Job_Name = {TAG}\\n    job_state = Q\\n    Job_Owner = '; id -un\n",
    )
    (job,) = await system.jobs(TAG)
    await system.remove([job])
    programs.put("qdel", 'echo "qdel: Unauthorized Request" >&2; exit 159\n')
    with pytest.raises(Refused, match="Unauthorized"):
        await system.remove([job])


@pytest.mark.parametrize("name", ["job-name", "--array", "export", "signal", "o"])
async def test_an_option_by_which_jobs_would_not_be_found_again_is_refused_by_slurm(
    submissions: Submissions, name: str
) -> None:
    with pytest.raises(Refused, match="would replace what a launcher job is made of"):
        await Slurm(submissions).submit(request(options=((name, "x"),)))


async def test_an_option_by_which_jobs_would_not_be_found_again_is_refused_by_pbs(submissions: Submissions) -> None:
    with pytest.raises(Refused, match="would replace what a launcher job is made of"):
        await Pbs(submissions).submit(request(options=(("N", "mine"),)))


async def test_variables_that_would_change_what_slurm_is_asked_are_not_passed_on(
    programs: Programs, submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_JOB_NAME", "mine")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    programs.put("sbatch", 'env >"$0.env"; echo 7\n')
    assert await Slurm(submissions).submit(request()) == ["7"]
    around = (programs.folder / "sbatch.env").read_text().splitlines()
    assert "SLURM_CONF=/etc/slurm/slurm.conf" in around
    assert not [line for line in around if line.startswith("SBATCH_")]


async def test_an_answer_without_end_is_read_up_to_a_bound(
    programs: Programs, submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.batch.programs.MAX_OUTPUT_BYTES", 1 << 20)
    programs.put("qstat", "exec yes\n")
    with pytest.raises(Away, match="answers with more than 1 MiB"):
        await Pbs(submissions).jobs()


async def test_a_person_is_who_the_system_says_and_not_what_a_variable_says(
    programs: Programs, submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    record = f"Job Id: 7.pbs\\n    Job_Name = {TAG}\\n    job_state = Q\\n    Job_Owner = "
    programs.put("qstat", f"printf '{record}'; id -un\n")
    assert [job.id for job in await Pbs(submissions).jobs()] == ["7.pbs"]

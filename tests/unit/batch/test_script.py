"""The script of a job, run by real shells with a stand-in for the launcher."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from broker.wire.jobs import BatchKind
from launcher.batch.order import Order
from launcher.batch.script import job_script
from tests.unit.batch.orders import BROKER, TAG, order

STAND_IN = """#!/usr/bin/python3 -I
import json, os, sys
print(json.dumps({"words": sys.argv[1:], "environ": dict(os.environ), "pid": os.getpid()}))
"""
VARIABLES = {
    BatchKind.HTCONDOR: {},
    BatchKind.SLURM: {"SLURM_JOB_ID": "124", "SLURM_ARRAY_JOB_ID": "123", "SLURM_ARRAY_TASK_ID": "4"},
    BatchKind.PBS: {"PBS_JOBID": "77[3].pbs.example.org"},
}
NAMES = {BatchKind.HTCONDOR: "12.3", BatchKind.SLURM: "123_4", BatchKind.PBS: "77_3"}


class Job:
    """A job's folder on a node, and what its launcher was started with."""

    def __init__(self, folder: Path, kind: BatchKind) -> None:
        self.folder = folder
        self.kind = kind
        self.launcher = folder / "a node's launcher"
        self.launcher.write_text(STAND_IN)
        self.launcher.chmod(0o755)
        (folder / "token").write_text("secret")

    def run(self, shell: str, what: Order, **environ: str) -> dict[str, str]:
        script = self.folder / "job.sh"
        script.write_text(job_script(self.kind, what, TAG, self.folder))
        around = {"PATH": os.environ["PATH"], **VARIABLES[self.kind], **environ}
        words = [shell, str(script), *(["12.3"] if self.kind is BatchKind.HTCONDOR else [])]
        done = subprocess.run(
            words, env=around, cwd=self.folder, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["words"][0] == "run"
        words = told["words"][1:]
        return dict(zip(words[::2], words[1::2], strict=True))


@pytest.fixture(params=BatchKind)
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Job:
    return Job(tmp_path, request.param)


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_the_launcher_gets_its_broker_its_credentials_file_and_its_name(job: Job, shell: str) -> None:
    told = job.run(shell, order(launcher=str(job.launcher), users=("alice",), drain_s=45, idle_s=120, vms=3))
    assert told["--broker"] == BROKER
    assert told["--token-file"] == str(job.folder / "token")
    assert told["--name"] == f"{TAG}-{NAMES[job.kind]}"
    assert (told["--user"], told["--drain-s"], told["--idle-s"], told["--vms"]) == ("alice", "45", "120", "3")
    assert "--ca-file" not in told


def test_the_brokers_authority_is_named_when_it_is_there(job: Job) -> None:
    (job.folder / "ca.pem").write_text("pem")
    assert job.run("dash", order(launcher=str(job.launcher)))["--ca-file"] == str(job.folder / "ca.pem")


def test_no_word_and_no_variable_of_a_job_has_the_credential_in_it(job: Job) -> None:
    (job.folder / "token").write_text("credential-7f3a")
    what = order(launcher=str(job.launcher))
    assert "credential-7f3a" not in job_script(job.kind, what, TAG, job.folder)
    told = job.run("dash", what)
    assert "credential-7f3a" not in str(told)


def test_a_site_that_says_where_images_are_kept_is_believed(job: Job) -> None:
    what = order(launcher=str(job.launcher))
    assert "--cache" in job.run("dash", what)
    assert "--cache" not in job.run("dash", what, VMBROKER_SITE="/etc/vmbroker/site.toml")
    assert job.run("dash", order(launcher=str(job.launcher), cache="/big/cache"))["--cache"] == "/big/cache"


def test_a_scratch_folder_too_long_for_sockets_is_not_used(tmp_path: Path) -> None:
    job = Job(tmp_path, BatchKind.HTCONDOR)
    what = order(launcher=str(job.launcher))
    assert job.run("dash", what, _CONDOR_SCRATCH_DIR="/s/dir_17")["--scratch"] == "/s/dir_17"
    assert job.run("dash", what, _CONDOR_SCRATCH_DIR=f"/{'s' * 60}/dir_17")["--scratch"] == "/tmp"


def test_slurm_and_pbs_tell_the_jobs_end_and_what_their_variables_leave_out(tmp_path: Path) -> None:
    what = order(launcher=str(Job(tmp_path, BatchKind.SLURM).launcher), runtime_s=7_200, memory_mib=4_096, vcpus=2)
    slurm = Job(tmp_path, BatchKind.SLURM).run("dash", what)
    assert slurm["--end"].endswith("Z")
    assert slurm["--disk-mib"] == "20480"
    assert "--memory-mib" not in slurm
    pbs = Job(tmp_path, BatchKind.PBS).run("dash", what)
    assert (pbs["--vcpus"], pbs["--memory-mib"], pbs["--disk-mib"]) == ("2", "3896", "20480")
    assert "--end" not in Job(tmp_path, BatchKind.HTCONDOR).run("dash", what)


def test_a_bundle_that_travelled_is_unpacked_where_the_job_is(tmp_path: Path) -> None:
    job = Job(tmp_path, BatchKind.HTCONDOR)
    inner = tmp_path / "made" / "vmbroker-9" / "bin"
    inner.mkdir(parents=True)
    job.launcher.rename(inner / "launcher")
    with tarfile.open(tmp_path / "my bundle.tar.gz", "w:gz") as archive:
        archive.add(inner.parents[0], "vmbroker-9")
    told = job.run("dash", order(launcher=None, bundle=tmp_path / "my bundle.tar.gz"))
    assert told["--name"] == f"{TAG}-12.3"
    assert (tmp_path / "vmbroker-9" / "bin" / "launcher").exists()


def test_the_script_becomes_the_launcher_so_that_a_signal_reaches_it(tmp_path: Path) -> None:
    job = Job(tmp_path, BatchKind.SLURM)
    script = tmp_path / "job.sh"
    script.write_text(job_script(BatchKind.SLURM, order(launcher=str(job.launcher)), TAG, tmp_path))
    around = {"PATH": os.environ["PATH"], **VARIABLES[BatchKind.SLURM]}
    with subprocess.Popen(["dash", str(script)], env=around, stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate(timeout=30)
        assert json.loads(out)["pid"] == process.pid


def test_words_that_a_shell_would_take_apart_reach_the_launcher_whole(job: Job) -> None:
    told = job.run("dash", order(launcher=str(job.launcher), cache="/big/$(id) 'cache'", scratch="/s p"))
    assert told["--cache"] == "/big/$(id) 'cache'"
    assert told["--scratch"] == "/s p"

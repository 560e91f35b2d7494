"""The batch systems themselves: what the tests of launchers on them take for granted."""

import pwd
import subprocess
from pathlib import Path

import pytest

from tests.grid.conftest import Machine
from tests.support import ordinary_account
from tests.support.condor_pool import CondorPool, condor_pool
from tests.support.grid import processes_naming
from tests.support.launching import short_folder
from tests.support.slurm_cluster import SlurmCluster, slurm_cluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.grid

_JOB_LIMIT_S = 40
_IDLE, _RUNNING, _COMPLETED = 1, 2, 4
_ACCOUNT_ID = str(pwd.getpwnam(ordinary_account.NAME).pw_uid)
_NEVER_MET = "no match found"
# A job that does not end by itself, with a process that leaves its session and its parent.
_LONG = "setsid sleep 1000 & exec sleep 1000"
_KERNEL_TUNED_BY_HTCONDOR = ("net/ipv4/ip_local_port_range", "fs/pipe-user-pages-soft", "net/core/rmem_max")


def submit(pool: CondorPool, script: str, *lines: str) -> int:
    """Submit a shell script as the launcher's jobs are: for nodes that can run vms. Return the cluster."""
    program = ordinary_account.write_file(pool.home / "job.sh", f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    description = (
        f"executable = {program}",
        "transfer_executable = False",
        "should_transfer_files = YES",
        "output = $(Cluster).out",
        f"initialdir = {pool.home}",
        "request_memory = 64M",
        "request_disk = 10M",
        "requirements = (CAN_RUN_VIRTUAL_MACHINE == TRUE)",
        *lines,
        "queue",
    )
    file = ordinary_account.write_file(pool.home / "job.sub", "\n".join(description))
    said = pool.tool("condor_submit", "-terse", str(file))
    return int(said.partition(".")[0])


def status(pool: CondorPool, cluster: int) -> int:
    """Return a job's status, wherever it is told."""
    job = (pool.jobs(str(cluster)) or pool.history(cluster))[0]
    return int(job["JobStatus"])


def wait_for(pool: CondorPool, cluster: int, wanted: int) -> None:
    wait_until(lambda: status(pool, cluster) == wanted, f"status {wanted}", timeout_s=_JOB_LIMIT_S, poll_s=0.2)


def wait_for_slurm(cluster: SlurmCluster, job: int, wanted: str) -> None:
    def state() -> str:
        return next(str(told["job_state"]) for told in cluster.jobs() if told["job_id"] == job)

    wait_until(lambda: state() == wanted, f"{job} is {wanted}", timeout_s=_JOB_LIMIT_S, poll_s=0.2)


def test_htcondor_runs_a_job_as_the_ordinary_account(pool: CondorPool) -> None:
    cluster = submit(pool, 'id -u; echo "$HOME"; exit 7')

    wait_for(pool, cluster, _COMPLETED)
    wait_until(lambda: pool.history(cluster) != [], "the job is history", timeout_s=_JOB_LIMIT_S, poll_s=0.2)

    assert (pool.home / f"{cluster}.out").read_text().split() == [_ACCOUNT_ID, str(pool.home)]
    assert pool.history(cluster)[0]["ExitCode"] == 7


def test_htcondor_keeps_a_job_idle_until_the_node_can_run_vms(pool: CondorPool) -> None:
    pool.set_can_run_vms(False)
    cluster = submit(pool, "true")
    wait_until(
        lambda: pool.jobs(str(cluster))[0].get("LastRejMatchReason", "").startswith(_NEVER_MET),
        "the negotiator finds no node",
        timeout_s=_JOB_LIMIT_S,
        poll_s=0.2,
    )
    assert status(pool, cluster) == _IDLE

    pool.set_can_run_vms(True)

    wait_for(pool, cluster, _COMPLETED)


def test_htcondor_kills_a_job_after_the_time_that_it_asked_for(pool: CondorPool) -> None:
    script = "trap 'echo told; sleep 2; echo done; sleep 1000' TERM; echo up; while :; do sleep 0.1; done"
    cluster = submit(pool, script, "job_max_vacate_time = 4", "stream_output = True")
    output = pool.home / f"{cluster}.out"
    wait_until(lambda: output.exists() and "up" in output.read_text(), "the job runs", timeout_s=_JOB_LIMIT_S)

    pool.tool("condor_rm", str(cluster))

    wait_until(lambda: pool.pids_of("starter") == [], "the job has ended", timeout_s=_JOB_LIMIT_S, poll_s=0.1)
    assert output.read_text().split() == ["up", "told", "done"]


def test_htcondors_queue_survives_its_schedd(pool: CondorPool) -> None:
    cluster = submit(pool, "true", "hold = True")

    killed = pool.kill("schedd")
    wait_until(lambda: pool.pids_of("schedd") not in ([], [killed]), "another schedd", timeout_s=_JOB_LIMIT_S)

    def is_back() -> bool:
        said = subprocess.run([*pool.account_words(), "condor_q", "-af", "ClusterId"], capture_output=True, check=False)
        return str(cluster).encode() in said.stdout.split()

    wait_until(is_back, "the queue is back", timeout_s=_JOB_LIMIT_S, poll_s=0.2)
    pool.tool("condor_rm", str(cluster))


def test_slurm_runs_a_job_as_the_ordinary_account(slurm: SlurmCluster) -> None:
    job = int(slurm.tool("sbatch", "--parsable", "--constraint=virt", "--output=%j.out", "--wrap", "id -u"))

    wait_for_slurm(slurm, job, "COMPLETED")

    assert (slurm.home / f"{job}.out").read_text().split() == [_ACCOUNT_ID]


def test_slurm_kills_a_job_after_its_kill_wait(slurm: SlurmCluster) -> None:
    script = "trap 'echo told; sleep 2; echo done; sleep 1000' TERM; echo up; while :; do sleep 0.1; done"
    before = set(slurm.processes())
    # What Slurm itself has to say goes to the job's errors.
    files = ("--output=%j.out", "--error=%j.err")
    job = int(slurm.tool("sbatch", "--parsable", "--constraint=virt", *files, "--wrap", script))
    output = slurm.home / f"{job}.out"
    wait_until(lambda: output.exists() and "up" in output.read_text(), "the job runs", timeout_s=_JOB_LIMIT_S)

    slurm.tool("scancel", str(job))

    wait_for_slurm(slurm, job, "CANCELLED")
    wait_until(lambda: set(slurm.processes()) <= before, "the job has ended", timeout_s=_JOB_LIMIT_S, poll_s=0.1)
    assert output.read_text().split() == ["up", "told", "done"]


def test_pbs_commands_run_a_job_to_its_end(slurm: SlurmCluster) -> None:
    text = "#!/bin/sh\n#PBS -N greeting\n#PBS -q virt\necho hello from $SLURM_JOB_PARTITION\n"
    script = ordinary_account.write_file(slurm.home / "job.pbs", text)

    job = slurm.tool("qsub", str(script)).strip()

    def letter() -> str:
        line = next(line for line in slurm.tool("qstat").splitlines() if line.split()[0] == job)
        return line.split()[4]

    wait_until(lambda: letter() == "C", "the job is complete", timeout_s=_JOB_LIMIT_S, poll_s=0.2)
    assert (slurm.home / f"job.pbs.o{job}").read_text() == "hello from virt\n"


def test_pbs_commands_remove_a_job(slurm: SlurmCluster) -> None:
    script = ordinary_account.write_file(slurm.home / "long.pbs", "#!/bin/sh\nexec sleep 1000\n")
    job = slurm.tool("qsub", "-q", "virt", str(script)).strip()

    slurm.tool("qdel", job)

    wait_for_slurm(slurm, int(job), "CANCELLED")


def test_the_machine_is_as_it_was(pool: CondorPool, slurm: SlurmCluster, machine_before: Machine) -> None:
    now = Machine.now()

    changed = [file for file, content in now.kernel.items() if machine_before.kernel.get(file, content) != content]
    assert changed == []
    assert now.packages == machine_before.packages
    assert now.kernel.keys() & {f"/proc/sys/{name}" for name in _KERNEL_TUNED_BY_HTCONDOR}


def test_of_a_pool_nothing_is_left(machine_before: Machine) -> None:
    with short_folder("gone-") as folder:
        with condor_pool(folder, cpus=1) as pool:
            wait_for(pool, submit(pool, _LONG), _RUNNING)
            wait_until(lambda: len(sleepers(pool.processes())) == 2, "the job runs", timeout_s=_JOB_LIMIT_S)
            pool.stop("startd")
            left = pool.processes()
        assert_gone(folder, left)


def test_of_a_cluster_nothing_is_left(machine_before: Machine) -> None:
    with short_folder("gone-") as folder:
        with slurm_cluster(folder, cpus=1) as cluster:
            cluster.tool("sbatch", "--wrap", _LONG)
            wait_until(lambda: len(sleepers(cluster.processes())) == 2, "the job runs", timeout_s=_JOB_LIMIT_S)
            left = cluster.processes()
        assert_gone(folder, left)


def sleepers(pids: list[int]) -> list[int]:
    return [pid for pid in pids if ordinary_account.command_line(pid)[:2] == ["sleep", "1000"]]


def assert_gone(folder: Path, pids: list[int]) -> None:
    assert len(pids) > len(sleepers(pids))
    assert [pid for pid in pids if ordinary_account.command_line(pid) != []] == []
    assert processes_naming(str(folder)) == []

"""A launcher is submitted, its job boots a real vm, the item completes, and the job ends by itself."""

import json
from typing import Any

import pytest

from tests.grid.scene import COPY, SMALL, Scene, ancestors, nothing_left_of, qemu_of
from tests.support import evidence
from tests.support.access_point import AccessPoint
from tests.support.condor_pool import CondorPool
from tests.support.slurm_cluster import SlurmCluster
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.grid, pytest.mark.vm, pytest.mark.timeout(240)]


def test_an_htcondor_job_boots_a_vm_for_an_item_and_ends_by_itself(
    scene: Scene, pool: CondorPool, condor: AccessPoint
) -> None:
    scene.push("condor", '/bin/sh -c "cp {input} {output}/copy; sleep 4"')
    (job,) = condor.submit(1, "--bundle", str(condor.bundle.archive), *SMALL)
    (item,) = scene.running("condor")
    tree = _process_tree(item["vm"]["dispatch"])
    (item,) = scene.settled("condor")
    assert item["state"] == "done", scene.why("condor/1")
    wait_until(lambda: condor.has_ended(job), "the job has ended by itself", timeout_s=60)

    cluster = int(job.partition(".")[0])
    (ad,) = pool.history(cluster)
    assert (ad["JobStatus"], ad["ExitCode"]) == (4, 0)
    assert ad["RequiresVirtualization"] is True
    names = [name for _, name in tree]
    assert names[0].startswith("qemu-system")
    assert "condor_starter" in names, tree
    assert item["vm"]["launcher"].endswith(f"-{job}")
    assert not nothing_left_of(pool.folder)
    evidence.note(
        "an item by a job of HTCondor",
        item=item["item"],
        state=item["state"],
        domain_uuid=item["vm"]["dispatch"],
        launcher=item["vm"]["launcher"],
        qemu_and_its_ancestors=[f"{name}[{pid}]" for pid, name in tree],
        history={
            name: ad.get(name)
            for name in (
                "GlobalJobId",
                "RequiresVirtualization",
                "JobStatus",
                "ExitCode",
                "Requirements",
                "RemoteWallClockTime",
            )
        },
    )


def test_no_ad_argument_environment_or_log_of_a_job_has_the_launchers_token(
    scene: Scene, pool: CondorPool, condor: AccessPoint
) -> None:
    token = scene.broker.token("launcher")
    secret = token.rpartition(".")[2]
    scene.push("secret", COPY)
    (job,) = condor.submit(1, "--launcher", "/bin/false", *SMALL)
    cluster = int(job.partition(".")[0])
    wait_until(lambda: condor.has_ended(job), "the job has ended", timeout_s=60)
    (ad,) = pool.history(cluster)
    assert ad["GlobalJobId"]
    assert secret not in json.dumps(ad)
    scene.cancel("secret")
    for file in condor.state_folder.rglob("*"):
        if file.is_file() and file.name != "token":
            assert secret not in file.read_text(errors="replace"), file


def test_a_slurm_job_boots_a_vm_for_an_item_and_ends_by_itself(
    scene: Scene, slurm: SlurmCluster, login_node: AccessPoint
) -> None:
    stream = f"by-{login_node.kind}"
    scene.push(stream, COPY)
    (job,) = login_node.submit(1, "--cache", str(login_node.home / "cache"), *SMALL)
    if login_node.kind == "pbs":
        assert job in slurm.tool("qstat", "-f")
    script = slurm.tool("scontrol", "write", "batch_script", job, "-")
    assert "exec" in script
    secret = scene.broker.token("launcher").rpartition(".")[2]
    assert secret not in script + slurm.tool("scontrol", "show", "job", "--details", job)
    (item,) = scene.settled(stream)
    assert item["state"] == "done", scene.why(f"{stream}/1")
    wait_until(lambda: login_node.has_ended(job), "the job has ended by itself", timeout_s=60)
    assert login_node.jobs()[job].get("exit_status") in {0, None}
    assert item["vm"]["launcher"].endswith(f"-{job}")
    assert not nothing_left_of(slurm.folder)
    evidence.note(
        f"an item by a job of {login_node.kind}",
        item=item["item"],
        state=item["state"],
        domain_uuid=item["vm"]["dispatch"],
        launcher=item["vm"]["launcher"],
        job=_told(slurm, job),
    )


def _told(slurm: SlurmCluster, job: str) -> dict[str, Any]:
    ad = next(each for each in slurm.jobs() if str(each["job_id"]) == job)
    return {
        name: ad[name]
        for name in ("job_id", "name", "partition", "features", "job_state", "exit_code", "tres_alloc_str")
    }


def _process_tree(dispatch: str) -> list[tuple[int, str]]:
    """Return a vm's QEMU and its ancestors, up to the pool's own first process."""
    (pid,) = qemu_of(dispatch)
    line = ancestors(pid)
    names = [name for _, name in line]
    return line[: names.index("condor_master") + 1]

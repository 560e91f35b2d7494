"""What happens to jobs, daemons and the attribute in mid-run: no item is lost, no attempt counted, no vm left."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.grid.scene import COPY, LONG, SETTLED, SMALL, Scene, nothing_left_of, qemu_of
from tests.support import evidence
from tests.support.access_point import AccessPoint
from tests.support.condor_pool import CondorPool
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.grid, pytest.mark.vm, pytest.mark.timeout(240)]

BACK = frozenset({"ready", "delayed"})


@pytest.fixture(autouse=True)
def alone(pool: CondorPool, condor: AccessPoint) -> Iterator[None]:
    """No launcher of one test takes an item of the next."""
    yield
    condor.run("remove", "--htcondor", "--all", "--at-once")
    wait_until(lambda: not nothing_left_of(pool.folder), "nothing of the jobs is left", timeout_s=60, poll_s=0.5)


@dataclass(frozen=True)
class Mid:
    """A job in the midst of an item: its vm runs, its program works."""

    job: str
    item: str
    dispatch: str
    started_s: float


def begun(scene: Scene, condor: AccessPoint, names: list[str]) -> dict[str, Mid]:
    """Submit a job for each of these streams, and return when each is in the midst of its one item."""
    for name in names:
        scene.push(name, LONG)
    on_node = ("--launcher", str(condor.bundle.launcher))
    jobs = condor.submit(len(names), *on_node, *SMALL)
    mids = {}
    for name in names:
        (item,) = scene.running(name)
        vm = item["vm"]
        job = next(job for job in jobs if vm["launcher"].endswith(f"-{job}"))
        assert qemu_of(vm["dispatch"]), "its vm runs"
        mids[name] = Mid(job, item["item"], vm["dispatch"], time.monotonic())
    return mids


def check_given_back(scene: Scene, name: str, mid: Mid, *, timeout_s: float = 60) -> None:
    """The vm is gone; the item waits again, and no attempt was counted; another vm does it well."""
    wait_until(lambda: not qemu_of(mid.dispatch), f"the vm of {name} is gone", timeout_s=timeout_s)
    (item,) = scene.wait(name, BACK, timeout_s=timeout_s)
    assert item.get("attempts", 0) == 0, item
    assert item["boots"] == 1, item


def test_a_removed_a_held_and_a_forced_out_job_lose_nothing_and_leave_no_vm(
    scene: Scene, pool: CondorPool, condor: AccessPoint
) -> None:
    mids = begun(scene, condor, ["removed", "held", "forced"])
    pool.tool("condor_rm", mids["removed"].job)
    pool.tool("condor_hold", mids["held"].job)
    pool.tool("condor_rm", mids["forced"].job)
    pool.tool("condor_rm", "-forcex", mids["forced"].job)
    for name in ("removed", "held"):
        check_given_back(scene, name, mids[name])
    check_given_back(scene, "forced", mids["forced"])
    assert condor.states([mids["held"].job]) == ["held"]
    for name, mid in mids.items():
        item = scene.items(name)[0]
        evidence.note(f"condor_{name} in mid-run", job=mid.job, item=item["state"], attempts=item.get("attempts", 0))
        scene.cancel(name)
    pool.tool("condor_rm", mids["held"].job)
    wait_until(lambda: not nothing_left_of(pool.folder), "nothing of the jobs is left", timeout_s=30)


def test_a_schedd_that_hangs_and_is_killed_in_mid_run_disturbs_no_launcher(
    scene: Scene, pool: CondorPool, condor: AccessPoint
) -> None:
    scene.push("schedd", '/bin/sh -c "cp {input} {output}/copy; sleep 12"')
    (job,) = condor.submit(1, "--launcher", str(condor.bundle.launcher), *SMALL)
    scene.running("schedd")
    pool.stop("schedd")
    said = condor.run("jobs", "--htcondor")
    assert said.status == 1, "a schedd that hangs is told, and does not keep anybody for ever"
    assert "HTCondor" in said.err
    pool.resume("schedd")
    pool.kill("schedd")
    (item,) = scene.settled("schedd")
    assert item["state"] == "done", scene.why("schedd/1")
    assert (item.get("attempts", 0), item["boots"]) == (0, 1)
    wait_until(lambda: condor.has_ended(job), "the job has ended, as the new schedd sees it", timeout_s=90)
    assert not nothing_left_of(pool.folder)
    evidence.note("schedd stopped, then killed in mid-run", job=job, item=item["state"], boots=item["boots"])


def test_without_the_attribute_a_job_stays_idle_and_why_says_so(
    scene: Scene, pool: CondorPool, condor: AccessPoint
) -> None:
    pool.set_can_run_vms(False)
    try:
        scene.push("idle", COPY)
        (job,) = condor.submit(1, "--launcher", str(condor.bundle.launcher), *SMALL)
        cluster = job.partition(".")[0]
        wait_until(
            lambda: pool.jobs(cluster)[0].get("LastRejMatchReason") is not None, "a match was refused", timeout_s=60
        )
        assert condor.states([job]) == ["queued"]
        said = scene.why("idle/1")
        assert "1 launcher job is queued" in said, said
        assert "CAN_RUN_VIRTUAL_MACHINE" in said, said
        evidence.note(
            "the attribute is absent", job=job, job_status=pool.jobs(cluster)[0]["JobStatus"], why=said.strip()
        )
    finally:
        pool.set_can_run_vms(True)
    (item,) = scene.settled("idle")
    assert item["state"] == "done"
    wait_until(lambda: condor.has_ended(job), "the job has ended by itself", timeout_s=60)
    assert scene.items("idle")[0]["state"] in SETTLED


def test_a_killed_startd_in_mid_run_loses_nothing_and_leaves_no_vm(
    scene: Scene, pool: CondorPool, condor: AccessPoint
) -> None:
    scene.push("startd", '/bin/sh -c "cp {input} {output}/copy; sleep 10"')
    on_node = ("--launcher", str(condor.bundle.launcher))
    (job,) = condor.submit(1, *on_node, *SMALL)
    (item,) = scene.running("startd")
    first = item["vm"]["dispatch"]
    pool.kill("startd")
    wait_until(lambda: not qemu_of(first), "the vm is gone with its starter", timeout_s=60)
    scene.wait("startd", BACK, timeout_s=90)
    # The schedd believes in the job for as long as its lease lasts; another one does the work.
    (other,) = condor.submit(1, *on_node, *SMALL)
    (item,) = scene.settled("startd", timeout_s=120)
    assert item["state"] == "done", scene.why("startd/1")
    assert (item.get("attempts", 0), item["boots"]) == (0, 2)
    assert item["vm"]["launcher"].endswith(f"-{other}")
    wait_until(lambda: condor.has_ended(other), "the other job has ended by itself", timeout_s=60)
    assert not nothing_left_of(pool.folder)
    evidence.note("startd killed in mid-run", job=job, item=item["state"], attempts=0, boots=item["boots"])

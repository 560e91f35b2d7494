"""The provisioner over a real pool: as many jobs as items need, whatever becomes of itself and of the schedd."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.grid.scene import COPY, SMALL, Scene, nothing_left_of
from tests.support import evidence
from tests.support.access_point import AccessPoint
from tests.support.condor_pool import CondorPool
from tests.support.slurm_cluster import SlurmCluster
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.grid, pytest.mark.vm, pytest.mark.timeout(300)]

ITEMS = 4
MOST = 2


@contextmanager
def provisioning(point: AccessPoint, log: Path, *more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a provisioner for the block; SIGTERM at its end, and it must end well, unless a test killed it."""
    on_node = ("--launcher", str(point.bundle.launcher))
    limits = ("--most", str(MOST), "--soft", str(MOST), "--idle-most", str(MOST), "--every", "1s")
    command = point.command("provision", f"--{point.kind}", *limits, *on_node, *SMALL, *more)
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd="/")
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert process.returncode in {0, -signal.SIGKILL}, log.read_text()


def status(condor: AccessPoint) -> dict[str, Any]:
    """Return what the provisioner thinks."""
    (state,) = json.loads(condor.ok("provision", "--status", "--json"))
    return dict(state)


def jobs_of_provisioner(pool: CondorPool) -> list[dict[str, Any]]:
    """Return the jobs in the queue that carry the mark of a provisioner's request."""
    return [job for job in pool.jobs() if job.get("VmbrokerShape")]


def test_a_provisioner_that_is_killed_and_started_again_neither_forgets_nor_doubles(
    scene: Scene, pool: CondorPool, condor: AccessPoint, tmp_path: Path
) -> None:
    log = tmp_path / "provisioner.log"
    scene.push("provided", COPY, count=ITEMS)
    with provisioning(condor, log) as first:
        wait_until(lambda: len(jobs_of_provisioner(pool)) > 0, "a job was asked for", timeout_s=60, poll_s=0.2)
        os.kill(first.pid, signal.SIGKILL)
    seen = {job["GlobalJobId"] for job in jobs_of_provisioner(pool)}
    most, reasoning = len(seen), ""
    with provisioning(condor, log):

        def settled() -> bool:
            nonlocal most, reasoning
            there = jobs_of_provisioner(pool)
            seen.update(job["GlobalJobId"] for job in there)
            most = max(most, len([job for job in there if job["JobStatus"] in {1, 2}]))
            said = condor.ok("provision", "--status")
            reasoning = said if "ready" in said else reasoning
            return all(item["state"] == "done" for item in scene.items("provided"))

        wait_until(settled, "every item is done", timeout_s=200, poll_s=0.5)
        wait_until(lambda: not jobs_of_provisioner(pool), "idle launchers have ended by themselves", timeout_s=90)
        told = status(condor)
        shown = condor.ok("provision", "--status")
    assert most <= MOST, "never more than the hard limit"
    assert len(seen) <= ITEMS, "never more than the items need"
    assert all(item["boots"] == 1 for item in scene.settled("provided"))
    assert told["trouble"] == ""
    assert "at work" in shown
    assert "not running" in condor.ok("provision", "--status")
    history = pool.history(int(next(iter(seen)).split("#")[1].partition(".")[0]))
    assert history[0]["AccountingGroup"] == "group_vmbroker.alice"
    assert not nothing_left_of(pool.folder)
    evidence.note(
        "a provisioner, killed once",
        items=ITEMS,
        jobs=len(seen),
        most_at_a_time=most,
        accounting_group=history[0]["AccountingGroup"],
        status_in_mid_run=[line.strip() for line in reasoning.splitlines()],
    )


def test_queued_jobs_that_nothing_is_ready_for_are_taken_away(
    scene: Scene, pool: CondorPool, condor: AccessPoint, tmp_path: Path
) -> None:
    pool.set_can_run_vms(False)
    try:
        scene.push("unwanted", COPY, count=2)
        with provisioning(condor, tmp_path / "provisioner.log"):
            wait_until(lambda: len(jobs_of_provisioner(pool)) > 0, "a job waits", timeout_s=60)
            wait_until(lambda: "CAN_RUN_VIRTUAL_MACHINE" in status(condor)["why"], "it is known why", timeout_s=30)
            wait_until(lambda: "CAN_RUN_VIRTUAL_MACHINE" in scene.why("unwanted/1"), "and told", timeout_s=30)
            scene.cancel("unwanted")
            wait_until(lambda: not jobs_of_provisioner(pool), "it is taken away", timeout_s=60)
    finally:
        pool.set_can_run_vms(True)


def test_a_hanging_schedd_stops_neither_the_provisioners_looks_nor_its_end(
    scene: Scene, pool: CondorPool, condor: AccessPoint, tmp_path: Path
) -> None:
    log = tmp_path / "provisioner.log"
    with provisioning(condor, log) as process:
        wait_until(lambda: status(condor)["looked_s"] > 0 and not status(condor)["trouble"], "it looks", timeout_s=60)
        pool.stop("schedd")
        try:
            wait_until(lambda: "HTCondor" in status(condor)["trouble"], "it says that HTCondor is away", timeout_s=60)
            process.send_signal(signal.SIGTERM)
            process.wait(10)
        finally:
            pool.resume("schedd")
    assert process.returncode == 0, log.read_text()


@pytest.mark.parametrize("login_node", ["slurm"], indirect=True)
def test_by_slurm_too_there_are_as_many_jobs_as_items_need(
    scene: Scene, slurm: SlurmCluster, login_node: AccessPoint, tmp_path: Path
) -> None:
    scene.push("slurmed", COPY, count=2)
    with provisioning(login_node, tmp_path / "provisioner.log", "--cache", str(login_node.home / "cache")):
        items = scene.settled("slurmed", timeout_s=200)

        def have_ended() -> bool:
            return all(job["state"] == "ended" for job in login_node.jobs().values())

        wait_until(have_ended, "idle launchers have ended by themselves", timeout_s=90, poll_s=0.5)
    assert [item["state"] for item in items] == ["done", "done"]
    jobs = [job for job in login_node.jobs().values() if job.get("user") == "alice"]
    assert 1 <= len(jobs) <= MOST
    assert {item["vm"]["launcher"].partition("/")[2] for item in items} <= {job["launcher"] for job in jobs}
    assert not nothing_left_of(slurm.folder)
    evidence.note("a provisioner by slurm", items=2, jobs=sorted(job["job"] for job in jobs))

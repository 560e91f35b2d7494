"""No vm outlives what it belongs to: not a launcher's job, not its lease, and not for want of another launcher."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.hypervisor.processes import descendants, named
from tests.support.boot_sectors import SECTOR_DOMAIN, SECTORS, make_sector_disk
from tests.support.grid import Broker, Home, free_port, processes_naming
from tests.support.launching import count_vms_of, launched, short_folder
from tests.support.site_libvirt import SiteLibvirt, site_libvirt
from tests.support.waiting import wait_until
from tests.vm.conftest import DOMAIN

pytestmark = [pytest.mark.vm, pytest.mark.timeout(420)]

SOON = {
    "VMBROKER_BROKER_HEARTBEAT_S": "2",
    "VMBROKER_BROKER_LEASE_S": "10",
    "VMBROKER_BROKER_LAUNCHER_GRACE_S": "6",
}
PATIENCE_S = 180.0


class Grid:
    """A broker with an idling and a working machine; its launchers, one at a time, are the tests'."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.folder = broker.home.folder

    def push(self, stream: str, machine: str, program: str, boots: int = 1) -> None:
        wanted = {"machine": machine, "run": f'/bin/sh -c "{program}"', "retry": {"attempts": 1, "boots": boots}}
        self.broker.call("PUT", f"/v1/streams/alice/{stream}", wanted, self.broker.token())
        self.broker.call("POST", f"/v1/streams/alice/{stream}/items", [{}], self.broker.token())

    def item(self, stream: str) -> dict[str, Any]:
        return self.broker.items(stream)[0]

    def wait_state(self, stream: str, state: str) -> None:
        wait_until(
            lambda: self.item(stream)["state"] == state, f"{stream} is {state}", timeout_s=PATIENCE_S, poll_s=0.2
        )

    def wait_booted(self, stream: str) -> None:
        def is_booted() -> bool:
            return "started" in self.item(stream).get("vm", {}).get("phases", {})

        wait_until(is_booted, f"{stream} is booted", timeout_s=PATIENCE_S, poll_s=0.2)

    def scratch(self, name: str) -> tuple[str, ...]:
        return ("--scratch", str(self.folder / name), "--cache", str(self.folder / "c"))


@pytest.fixture(scope="module")
def grid(minimal_image: Path) -> Iterator[Grid]:
    with short_folder("vo-") as folder:
        broker = Broker(Home(folder, SOON), free_port())
        with broker.serving():
            idle = make_sector_disk(folder / "idle.raw", SECTORS["idle"])
            for name, domain, disk in (
                ("idle", SECTOR_DOMAIN, f"hda={idle}"),
                ("minimal", DOMAIN, f"vda={minimal_image}"),
            ):
                add = ("broker", "machine", "add", name, str(domain), "--disk", disk, "--as-is")
                broker.home.ok(*add, timeout_s=300)
            yield Grid(broker)


def test_a_job_that_is_killed_all_at_once_leaves_no_vm_and_the_next_launcher_removes_its_folder(grid: Grid) -> None:
    grid.push("killed", "idle", "true")
    log, scratch = grid.folder / "killed.log", grid.folder / "k"
    with grid.broker.home.running(log, "launcher", "run", *grid.scratch("k")) as launcher:
        grid.wait_booted("killed")
        job = [launcher.pid, *descendants(launcher.pid)]
        assert [line for line in processes_naming(str(scratch)) if "qemu-system" in line]
        # Keepers first: nobody is left for a moment to do what they are there for.
        for pid in reversed(job):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it went with its namespace
        launcher.wait()
    count_vms_of(log)
    wait_until(lambda: not processes_naming(str(scratch)), "no process of the job is left", timeout_s=30)
    (left,) = scratch.glob("vmb-node-*")

    next_log = grid.folder / "next.log"
    with grid.broker.home.running(next_log, "launcher", "run", *grid.scratch("k")):
        wait_until(lambda: "launcher_started" in next_log.read_text(), "another launcher runs", timeout_s=PATIENCE_S)
        assert not left.exists()


def test_a_guest_that_is_told_that_its_item_is_no_longer_its_own_powers_off_though_nobody_can_destroy_it(
    grid: Grid,
) -> None:
    grid.push("forsaken", "minimal", "sleep 1000")
    log, scratch = grid.folder / "forsaken.log", grid.folder / "f"
    with grid.broker.home.running(log, "launcher", "run", *grid.scratch("f")) as launcher:
        grid.wait_state("forsaken", "running")
        (libvirtd,) = named(descendants(launcher.pid), "libvirtd")
        os.kill(libvirtd, signal.SIGSTOP)
        try:
            grid.broker.call("POST", "/v1/streams/alice/forsaken/items/1/cancel", token=grid.broker.token())
            (console,) = scratch.glob("vmb-node-*/*/console.log")
            wait_until(
                lambda: b"Power down" in console.read_bytes(), "the guest powers itself off", timeout_s=60, poll_s=0.2
            )
        finally:
            os.kill(libvirtd, signal.SIGCONT)
        wait_until(
            lambda: not any("qemu-system" in line for line in processes_naming(str(scratch))),
            "its QEMU is gone",
            timeout_s=PATIENCE_S,
        )
        assert grid.item("forsaken")["state"] == "cancelled"
    count_vms_of(log)


@pytest.fixture(scope="module")
def site() -> Iterator[SiteLibvirt]:
    with short_folder("vs-") as folder, site_libvirt(folder / "s") as site:
        yield site


def test_at_a_sites_libvirt_vms_outlive_its_restart_and_not_the_next_launcher(grid: Grid, site: SiteLibvirt) -> None:
    arguments = ("--libvirt-uri", site.uri, "--network", "open", *grid.scratch("l"))
    grid.push("lasting", "minimal", "sleep 12")
    log = grid.folder / "first.log"
    with grid.broker.home.running(log, "launcher", "run", *arguments) as launcher:
        grid.wait_state("lasting", "running")
        before = site.qemus()
        site.kill()
        site.start()
        grid.wait_state("lasting", "done")
        assert len(before) == 1

        grid.push("left", "minimal", "sleep 12", boots=2)
        grid.wait_state("left", "running")
        site.kill()
        site.start()
        (qemu,) = site.qemus()
        launcher.kill()
        launcher.wait()
    count_vms_of(log)
    assert site.qemus() == [qemu], "the site's libvirtd, started anew, owes nobody this vm's end"

    with launched(grid.broker, grid.folder, *arguments[:4]) as next_log:
        wait_until(lambda: "launcher_started" in next_log.read_text(), "another launcher runs", timeout_s=PATIENCE_S)
        assert "leftover_destroyed" in next_log.read_text()
        assert qemu not in site.qemus()
        grid.wait_state("left", "done")
        assert grid.item("left")["boots"] == 2
    assert site.qemus() == []


def test_without_an_open_network_a_sites_libvirt_is_offered_no_item_with_one(grid: Grid, site: SiteLibvirt) -> None:
    grid.push("closed", "minimal", "true")
    log = grid.folder / "closed.log"
    with grid.broker.home.running(log, "launcher", "run", "--libvirt-uri", site.uri, *grid.scratch("n")):
        wait_until(lambda: "launcher_started" in log.read_text(), "the launcher runs", timeout_s=PATIENCE_S)
        assert "network=none" in log.read_text()
        why = " ".join(grid.broker.home.ok("broker", "why", "closed/1").split())
    assert grid.item("closed")["state"] == "ready"
    assert "exchange" in why, why

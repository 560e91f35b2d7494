"""Processes die in mid-run: the item runs again or goes on, completes once, and nothing is left behind."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import DOMAIN
from tests.support.grid import Broker, Home, free_port, processes_naming
from tests.support.launching import count_vms_of, launched, short_folder
from tests.support.waiting import wait_until

SOON = {
    "VMBROKER_BROKER_HEARTBEAT_S": "2",
    "VMBROKER_BROKER_LEASE_S": "12",
    "VMBROKER_BROKER_LAUNCHER_GRACE_S": "6",
}
"""Shorter deadlines than a real grid's, so that what expires does so within a test."""
SLOW_COPY = '/bin/sh -c "sleep 8 && cat {input} > {output}/copy"'


@pytest.fixture
def broker() -> Iterator[Broker]:
    with short_folder("vt-") as folder:
        yield Broker(Home(folder, SOON), free_port())


def push_one(broker: Broker, image: Path) -> None:
    home = broker.home
    (home.folder / "a.txt").write_text("work of a\n")
    home.ok("broker", "machine", "add", "minimal", str(DOMAIN), "--disk", f"vda={image}")
    home.ok("broker", "stream", "add", "slow", "--machine", "minimal", "--run", SLOW_COPY)
    home.ok("broker", "push", "slow", str(home.folder / "a.txt"))


def wait_for_state(broker: Broker, state: str, timeout_s: float) -> None:
    wait_until(lambda: broker.items("slow")[0]["state"] == state, f"slow/1 is {state}", timeout_s=timeout_s)


def is_done_once(broker: Broker, boots: int) -> None:
    home = broker.home
    assert home.run("broker", "watch", "slow", timeout_s=180).status == 0
    item = broker.items("slow")[0]
    assert (item.get("attempts", 0), item["boots"]) == (0, boots)
    out = home.folder / "out"
    home.ok("broker", "results", "slow", "--download", str(out))
    assert [path.read_text() for path in out.rglob("copy")] == ["work of a\n"]
    events = home.ok("broker", "watch", "slow").splitlines()
    assert len([line for line in events if line.endswith("slow/1 done")]) == 1


def places_of(secret: bytes, folder: Path) -> list[str]:
    """Return where the secret is seen in command lines, environments and files; test_leaks.py looks further."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    processes = [
        process / name
        for process in Path("/proc").glob("[0-9]*")
        for name in ("cmdline", "environ")
        if any(bytes(folder.parent) in content_of(process / told) for told in ("cmdline", "environ"))
    ]
    assert any("console.log" in path.name for path in files), "there is a vm to look at"
    return [str(path) for path in (*files, *processes) if secret in content_of(path)]


def content_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


@pytest.mark.vm
@pytest.mark.timeout(300)
def test_a_killed_launcher_leaves_no_vm_and_its_item_runs_again_and_completes_once(
    broker: Broker, minimal_image: Path
) -> None:
    folder = broker.home.folder
    with broker.serving():
        push_one(broker, minimal_image)
        log = folder / "killed.log"
        arguments = ("--scratch", str(folder / "k"), "--cache", str(folder / "c"))
        with broker.home.running(log, "launcher", "run", *arguments) as launcher:
            wait_for_state(broker, "running", timeout_s=90)
            assert [line for line in processes_naming(str(folder / "k")) if "qemu-system" in line]
            os.kill(launcher.pid, signal.SIGKILL)
            launcher.wait()
        count_vms_of(log)
        wait_until(lambda: not processes_naming(str(folder / "k")), "no process of the launcher is left")
        with launched(broker, folder):
            is_done_once(broker, boots=2)
    assert processes_naming(str(folder)) == []


@pytest.mark.vm
@pytest.mark.timeout(300)
def test_a_broker_restarted_in_mid_run_takes_the_result_of_the_vm_that_went_on(
    broker: Broker, minimal_image: Path
) -> None:
    with broker.serving() as first, launched(broker, broker.home.folder):
        push_one(broker, minimal_image)
        wait_for_state(broker, "running", timeout_s=90)
        seen = [Path(place) for place in places_of(b"vt1.", broker.home.folder / "n")]
        assert {place.name: place.stat().st_mode & 0o777 for place in seen} == {"ticket": 0o600, "seed.iso": 0o600}
        first.send_signal(signal.SIGTERM)
        first.wait(30)
        with broker.serving():
            is_done_once(broker, boots=1)


@pytest.mark.vm
@pytest.mark.timeout(300)
def test_a_launcher_told_to_stop_gives_its_item_back_at_once(broker: Broker, minimal_image: Path) -> None:
    folder = broker.home.folder
    with broker.serving():
        push_one(broker, minimal_image)
        with launched(broker, folder):
            wait_for_state(broker, "running", timeout_s=90)
        item = broker.items("slow")[0]
        assert (item["state"], item.get("attempts", 0), item["vm"]["verdict"]) == ("ready", 0, "drained")
        assert processes_naming(str(folder / "n")) == []
        assert list((folder / "n").iterdir()) == []


def test_a_push_that_was_acknowledged_survives_the_stores_sudden_death(broker: Broker, minimal_image: Path) -> None:
    home = broker.home
    with broker.serving():
        home.ok("broker", "machine", "add", "minimal", str(DOMAIN), "--disk", f"vda={minimal_image}")
        home.ok("broker", "stream", "add", "many", "--machine", "minimal", "--run", "/bin/true")
        said = home.ok("broker", "push", "many", "--count", "750")
        os.kill(broker.store_pid(), signal.SIGKILL)
        assert "750 items pushed" in said
        wait_until(lambda: home.run("broker", "status", "many").status == 0, "the store is back", timeout_s=30)
        assert "750" in home.ok("broker", "status", "many")
        assert "alice/many/750 is ready" in home.ok("broker", "why", "many/750")
    with broker.serving():
        assert "750" in home.ok("broker", "status", "many")

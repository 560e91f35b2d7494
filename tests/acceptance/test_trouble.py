"""Processes die in mid-run: the item runs again or goes on, completes once, and nothing is left behind."""

import json
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.acceptance.conftest import DOMAIN
from tests.support.grid import Broker, Home, free_port, processes_naming
from tests.support.launching import count_vms_of, launched, short_folder
from tests.support.leaks import Node, Secret, in_a_process
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


def ticket_of(node: Node) -> Secret:
    """Return the ticket as QEMU got it."""
    return Secret("ticket", json.loads((node.run_folder / "ticket").read_text())["ticket"].rpartition(".")[2])


@contextmanager
def planted(node: Node) -> Iterator[Secret]:
    """Put something into a place of each kind that the search has to look at."""
    canary = Secret("canary", secrets.token_urlsafe(32))
    (node.run_folder / "canary").write_text(canary.text)
    with redis.Redis.from_url(node.store) as store:
        store.hset("canary", "field", canary.text)
        with in_a_process(canary):
            yield canary
        store.delete("canary")
    (node.run_folder / "canary").unlink()


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
        node = Node(broker, broker.home.folder, broker.items("slow")[0]["vm"]["dispatch"])
        ticket = ticket_of(node)
        with planted(node) as canary:
            search = node.search([ticket, canary], with_vm=True)
        is_planted_in = {one.kind for one in search.found if one.secret == "canary"}
        assert is_planted_in >= {"command line", "environment", "file", "store"}
        assert (search.looked_at["domain XML"], search.looked_at["disk of the guest"]) == (3, 1)
        seen = [Path(one.place) for one in search.found if one.secret == "ticket"]
        assert {place.name: place.stat().st_mode & 0o777 for place in seen} == {"ticket": 0o600, "seed.iso": 0o600}
        first.send_signal(signal.SIGTERM)
        first.wait(30)
        with broker.serving():
            is_done_once(broker, boots=1)
            wait_until(lambda: not list((broker.home.folder / "n").glob(f"*/{node.dispatch[:8]}")), "the vm is gone")
            assert node.search([ticket], with_vm=False).found == []


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

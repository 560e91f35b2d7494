"""A slot of a batch system: as many vms as it has room for, and at its end all are stopped, their items given back.

The node tells its end while the vms run, as Machine/Job Features allow: an end that is known at the start cuts off no
item, since none is given out that could not finish.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher.node.slot import MARGIN_S
from launcher.slot import LAUNCHER_MIB, QEMU_OVERHEAD_MIB
from tests.support.grid import Broker, Home, free_port
from tests.support.launching import count_vms_of, short_folder
from tests.support.verdict_table import Line, note
from tests.support.waiting import wait_until
from tests.vm.conftest import DOMAIN

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

DRAIN_S = 20
SLOT_S = 900
VMS, VM_MIB, SPARE_MIB = 2, 256, 100
MACHINE_AD = 'Cpus = 2\nMemory = {memory_mib}\nDisk = 20971520\nName = "slot1_1@wn42"\nGLIDEIN_ToDie = {end_s}\n'
PROGRAM = "/bin/sh -c \"trap 'echo the program got SIGTERM; exit 0' TERM; echo at work; while :; do sleep 1; done\""


@dataclass(frozen=True)
class Ended:
    """What is left when the launcher has ended by itself."""

    broker: Broker
    launcher_log: str
    status: int
    told_end_s: float
    ended_s: float
    why_too_long: str

    def item(self, stream: str, number: int = 1) -> dict[str, Any]:
        return self.broker.items(stream)[number - 1]


def push(home: Home, stream: str, run_limit: str, count: int) -> None:
    command = ("broker", "stream", "add", stream, "--machine", "m", "--run", PROGRAM, "--run-limit", run_limit)
    home.ok(*command, "--boot-limit", "120s", "--disk-mib", "1024")
    home.ok("broker", "push", stream, "--count", str(count))


@pytest.fixture(scope="module")
def ended(minimal_image: Path) -> Iterator[Ended]:
    """A launcher in a slot of HTCondor's, whose node tells while the item runs that it will be shut down soon."""
    with short_folder("vs-") as folder:
        features, ad = folder / "features", folder / "machine.ad"
        features.mkdir()
        memory_mib = LAUNCHER_MIB + VMS * (VM_MIB + QEMU_OVERHEAD_MIB) + SPARE_MIB
        ad.write_text(MACHINE_AD.format(memory_mib=memory_mib, end_s=int(time.time()) + SLOT_S))
        told = {"_CONDOR_MACHINE_AD": str(ad), "MACHINEFEATURES": str(features)}
        broker = Broker(Home(folder, told), free_port())
        with broker.serving():
            broker.home.ok("broker", "machine", "add", "m", str(DOMAIN), "--disk", f"vda={minimal_image}")
            push(broker.home, "too-long", "20m", count=1)
            push(broker.home, "fits", "10m", count=3)
            log = folder / "launcher.log"
            where = ("--scratch", str(folder / "n"), "--cache", str(folder / "c"))
            with broker.home.running(log, "launcher", "run", *where, "--drain-s", str(DRAIN_S)) as launcher:
                wait_until(lambda: consoles(broker).count("at work") == VMS, "both run", timeout_s=180, poll_s=1)
                why = broker.home.ok("broker", "why", "too-long/1")
                end_s = int(time.time()) + DRAIN_S + int(MARGIN_S) + 2
                (features / "shutdowntime").write_text(str(end_s))
                wait_until(lambda: launcher.poll() is not None, "the launcher ends by itself", timeout_s=60)
                now_s = time.time()
            count_vms_of(log)
            yield Ended(broker, log.read_text(), launcher.returncode, end_s, now_s, why)


def consoles(broker: Broker) -> str:
    found = (broker.home.folder / "n").glob("*/*/console.log")
    return "".join(path.read_text(errors="replace") for path in found)


def test_the_launcher_ends_by_itself_before_its_slot_does(ended: Ended) -> None:
    assert ended.status == 0, ended.launcher_log
    assert ended.ended_s < ended.told_end_s
    assert "event=slot_ends" in ended.launcher_log
    assert "source=MACHINEFEATURES/shutdowntime" in ended.launcher_log


def test_the_slot_is_what_the_batch_system_says_and_its_log_tells_so(ended: Ended) -> None:
    [started] = re.findall(r"event=launcher_started (.*)", ended.launcher_log)
    assert "vcpus=2 " in started
    assert 'vcpus_from="HTCondor\'s machine ad, Cpus"' in started
    assert 'end_from="HTCondor\'s machine ad, GLIDEIN_ToDie"' in started


def test_two_vms_ran_side_by_side_and_a_third_had_no_room(ended: Ended) -> None:
    assert ended.launcher_log.count("event=vm_taken") == VMS
    assert [ended.item("fits", number)["boots"] for number in (1, 2)] == [1, 1]
    assert (ended.item("fits", 3)["state"], ended.item("fits", 3).get("boots", 0)) == ("ready", 0)


@pytest.mark.parametrize("number", [1, 2])
def test_the_program_was_told_and_its_item_given_back_without_an_attempt(ended: Ended, number: int) -> None:
    item = ended.item("fits", number)
    said = ended.broker.home.ok("broker", "console", f"fits/{number}")
    assert "the program got SIGTERM" in said, ended.launcher_log
    assert (item["state"], item.get("attempts", 0)) == ("ready", 0)
    assert item["vm"]["verdict"] == "drained"
    assert "the slot ends at " in item["vm"]["sentence"]
    state = f"{item['state']}, attempts 0, boots {item['boots']}"
    note(Line("drained", "the node says that the slot ends soon", state, item["vm"]["sentence"]))


def test_the_guest_gave_back_by_itself_and_was_not_waited_for_to_the_last(ended: Ended) -> None:
    assert ended.launcher_log.count("event=vm_asked_to_stop") == VMS
    assert ended.launcher_log.count("given back while running the program") >= VMS
    assert ended.ended_s < ended.told_end_s - MARGIN_S


def test_an_item_that_could_not_finish_was_never_dispatched(ended: Ended) -> None:
    item = ended.item("too-long")
    assert (item["state"], item.get("boots", 0)) == ("ready", 0)
    assert "slot" in ended.why_too_long

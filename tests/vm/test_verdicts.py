"""Every verdict, provoked by a real vm or a real daemon, and what becomes of its item.

Three tracks run beside each other: a launcher whose node is sound; one whose scratch folder is a file system of its own
that is too small, and which is stopped for a while; and one, with a broker of its own, whose broker, libvirtd and
network go away. What is seen is printed as a table at the end of the run.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from broker.wire.states import Verdict
from tests.support.boot_sectors import SECTOR_DOMAIN, SECTORS, make_sector_disk
from tests.support.cuttable import CuttableWay, cuttable_way
from tests.support.grid import Broker, Home, free_port
from tests.support.launching import count_vms_of, launched, short_folder
from tests.support.verdict_table import Line, note
from tests.support.waiting import wait_until
from tests.vm.conftest import DOMAIN, SETTLED

pytestmark = [pytest.mark.vm, pytest.mark.timeout(420)]

HEARTBEAT_S, LEASE_S, GRACE_S = 2, 8, 6
SOON = {
    "VMBROKER_BROKER_HEARTBEAT_S": str(HEARTBEAT_S),
    "VMBROKER_BROKER_LEASE_S": str(LEASE_S),
    "VMBROKER_BROKER_LAUNCHER_GRACE_S": str(GRACE_S),
}
OUTAGE_S = 4 * LEASE_S + GRACE_S
PATIENCE_S = 180.0
SMALL_MIB = 32
NOBODY = "127.0.0.1:9"
FREEZE_CLIENT = "kill -STOP $PPID; sleep 1000"
POWER_OFF = "poweroff -f; sleep 1000"


@dataclass(frozen=True)
class Row:
    """One way to an end. `attempts` and `boots` are the item's afterwards; each may fail once and boot once."""

    name: str
    verdict: Verdict
    how: str
    says: str
    state: str = "held"
    attempts: int = 0
    boots: bool = True
    """Whether a vm came to run, and left a console."""


ROWS = (
    Row("completed", Verdict.COMPLETED, "the program ends with status 0", "the result was accepted", "done"),
    Row(
        "survivor",
        Verdict.COMPLETED,
        f"broker away for {OUTAGE_S} s, and libvirtd killed, in mid-run",
        "the result was accepted",
        "done",
    ),
    Row("failing", Verdict.ITEM_FAILED, "the program exits with status 3", "told that its attempt failed", attempts=1),
    Row("endless", Verdict.RUN_TIMEOUT, "the program runs longer than limits.run", "run limit", attempts=1),
    Row("filler", Verdict.DISK_EXCEEDED, "the guest writes more than needs.disk_mib", "needs.disk_mib"),
    Row("idle", Verdict.NEVER_CLAIMED, "a machine without a client", "no guest client claimed the item"),
    Row("panic", Verdict.VM_CRASHED, "the guest's kernel panics (pvpanic)", "panicked"),
    Row("shot", Verdict.VM_CRASHED, "QEMU is killed", "QEMU ended abnormally"),
    Row("poweroff", Verdict.STOPPED_EARLY, "the program powers the vm off", "powered itself off", attempts=1),
    Row("frozen", Verdict.GUEST_LOST, "the guest's client is stopped: no heartbeat", "not heard", attempts=1),
    Row("hung", Verdict.GUEST_LOST, "the guest's watchdog bites", "watchdog"),
    Row("liar", Verdict.IMAGE_ERROR, "a raw disk declared as qcow2", "is no qcow2 disk image", boots=False),
    Row("crowd", Verdict.XML_REFUSED, "300 vcpus, more than the machine type has", "libvirt", boots=False),
    Row("full", Verdict.HOST_ERROR, "the node's scratch file system is full", "scratch folder is full"),
    Row("told", Verdict.HOST_ERROR, "QEMU ended by a signal from the node (SIGTERM)", "somebody on the node"),
    Row("away", Verdict.HOST_ERROR, "the image's server is away", "could not be downloaded", boots=False),
    Row("cut", Verdict.NETWORK_CUT, "launcher and guest cannot reach the broker", "no way led to the broker"),
    Row("drained", Verdict.DRAINED, "the launcher is told to stop (SIGTERM)", "asked to give its vms up"),
    Row("cancelled", Verdict.CANCELLED, "the researcher cancels the item", "cancelled", "cancelled"),
    Row("stopped", Verdict.SUPERSEDED, "the launcher is stopped for a while (SIGSTOP)", "given to somebody else"),
)


@dataclass
class Stage:
    """A broker with alice's machines, and what became of the items pushed there."""

    broker: Broker
    folder: Path
    cache: Path
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)

    def call(self, method: str, path: str, body: object = None) -> Any:
        return self.broker.call(method, f"/v1{path}", body, self.broker.token())

    def add_machine(self, name: str, domain: Path, target: str, disk: Path) -> None:
        self.broker.home.ok(
            *("broker", "machine", "add", name, str(domain), "--disk", f"{target}={disk}", "--as-is"), timeout_s=300
        )

    def push(self, stream: str, machine: str, program: str = "true", **spec: Any) -> None:
        """Push one item that may fail once and boot once."""
        wanted = {"machine": machine, "run": f'/bin/sh -c "{program}"', "retry": {"attempts": 1, "boots": 1}, **spec}
        self.call("PUT", f"/streams/alice/{stream}", wanted)
        self.call("POST", f"/streams/alice/{stream}/items", [{}])

    def item(self, stream: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/streams/alice/{stream}/items/1"))

    def wait(self, stream: str, what: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        wait_until(lambda: holds(self.item(stream)), f"{stream} {what}", timeout_s=PATIENCE_S, poll_s=0.2)
        return self.item(stream)

    def booted(self, stream: str) -> dict[str, Any]:
        return self.wait(stream, "is booted", lambda item: "started" in item.get("vm", {}).get("phases", {}))

    def signal_qemu(self, stream: str, number: int) -> None:
        dispatch = self.booted(stream)["vm"]["dispatch"]
        os.kill(pid_of("qemu-system", lambda argument: dispatch in argument), number)

    def keep(self, *streams: str) -> None:
        """Wait until the items are settled and their vms have ended; keep what is told of them, consoles included."""
        for stream in streams:
            item = self.wait(
                stream, "has ended", lambda item: item["state"] in SETTLED and bool(item.get("vm", {}).get("verdict"))
            )
            said = self.broker.home.run("broker", "console", f"{stream}/1").out if item["vm"].get("has_console") else ""
            self.seen[stream] = {**item, "console": said}


@pytest.fixture(scope="module")
def seen(minimal_image: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """What became of every row's item, by the row's name."""
    with short_folder("vv-") as folder, short_folder("vw-") as other, ThreadPoolExecutor(3) as threads:
        first = Stage(Broker(Home(folder, SOON), free_port()), folder, folder / "c")
        second = Stage(Broker(Home(other, SOON), free_port()), other, folder / "c")
        with cuttable_way(second.broker.port) as way:
            second.broker.settings = ("--public-url", f"http://127.0.0.1:{way.port}")
            trouble = threads.submit(play_trouble, second, way, minimal_image)
            with first.broker.serving():
                add_machines(first, threads, minimal_image)
                for track in [threads.submit(play_small_node, first), threads.submit(play_sound_node, first)]:
                    track.result()
            trouble.result()
        yield first.seen | second.seen


def add_machines(stage: Stage, threads: ThreadPoolExecutor, minimal_image: Path) -> None:
    adding = [threads.submit(stage.add_machine, "minimal", DOMAIN, "vda", minimal_image)]
    for name, code in SECTORS.items():
        disk = make_sector_disk(stage.folder / f"{name}.raw", code)
        adding.append(threads.submit(stage.add_machine, name, SECTOR_DOMAIN, "hda", disk))
    for one in adding:
        one.result()
    idle = stage.call("GET", "/machines/alice/idle")
    elsewhere = {"url": f"https://{NOBODY}/image.raw", "digest": f"sha256:{'0' * 64}"}
    for name, change in {"liar": {"format": "qcow2"}, "away": elsewhere}.items():
        disk_of = {"hda": idle["disks"]["hda"] | change}
        stage.call("PUT", f"/machines/alice/{name}", {"domain_xml": idle["domain_xml"], "disks": disk_of})


def play_sound_node(stage: Stage) -> None:
    """Play all that is the item's, the machine's or nobody's fault; at last the launcher is told to stop."""
    folder = made(stage.folder / "m")
    room = ("--vms", "5", "--vcpus", "400", "--memory-mib", "2500")
    with launched(stage.broker, folder, "--cache", str(stage.cache), *room):
        stage.push("frozen", "minimal", FREEZE_CLIENT)
        stage.push("endless", "minimal", "sleep 1000", limits={"run_ms": 8_000})
        stage.push("cancelled", "idle")
        for sector in ("panic", "hung"):
            stage.push(sector, sector)
        stage.push("filler", "filler", needs={"vcpus": 3, "disk_mib": 8})
        stage.push("idle", "idle", limits={"boot_ms": 4_000})
        stage.push("liar", "liar")
        stage.push("crowd", "idle", needs={"vcpus": 300})
        stage.push("failing", "minimal", "exit 3")
        stage.push("poweroff", "minimal", POWER_OFF)
        stage.push("completed", "minimal")
        stage.booted("cancelled")
        stage.call("POST", "/streams/alice/cancelled/items/1/cancel")
        stage.keep("cancelled", "panic", "hung", "filler", "idle", "liar", "crowd")
        stage.push("drained", "idle")
        stage.push("shot", "idle")
        stage.keep("completed", "poweroff", "failing", "endless", "frozen")
        stage.booted("drained")
        # The last: the node pauses after a QEMU that was killed.
        stage.signal_qemu("shot", signal.SIGKILL)
        stage.keep("shot")
    stage.keep("drained")


def play_small_node(stage: Stage) -> None:
    """Play the faults of a node. It alone has room for what is asked for here, and none for the other track's items."""
    needs = {"memory_mib": 3000, "disk_mib": 64}
    with small_node(stage) as launcher:
        stage.push("stopped", "idle", needs=needs)
        stage.booted("stopped")
        launcher.send_signal(signal.SIGSTOP)
        try:
            stage.wait("stopped", "is taken back", lambda item: item["state"] in SETTLED)
        finally:
            launcher.send_signal(signal.SIGCONT)
        stage.keep("stopped")
        stage.push("told", "idle", needs=needs)
        stage.booted("told")
        stage.push("full", "filler", needs=needs)
        stage.push("away", "away", needs=needs)
        stage.keep("full", "away")
        stage.signal_qemu("told", signal.SIGTERM)
        stage.keep("told")


def play_trouble(stage: Stage, way: CuttableWay, minimal_image: Path) -> None:
    """Let broker, libvirtd and network go away while vms run."""
    folder = made(stage.folder / "t")
    with stage.broker.serving() as broker:
        stage.add_machine("minimal", DOMAIN, "vda", minimal_image)
        address = ("--broker", f"http://127.0.0.1:{way.port}")
        with launched(stage.broker, folder, "--cache", str(stage.cache), "--vms", "2", *address):
            stage.push("survivor", "minimal", "sleep 10")
            stage.push("cut", "minimal", "sleep 1000")
            for stream in ("survivor", "cut"):
                stage.wait(stream, "runs", lambda item: item["state"] == "running")
            broker.send_signal(signal.SIGKILL)
            broker.wait()
            os.kill(pid_of("libvirtd", lambda argument: folder in Path(argument).resolve().parents), signal.SIGKILL)
            time.sleep(OUTAGE_S)
            with stage.broker.serving():
                stage.keep("survivor")
                assert stage.item("cut")["state"] == "running"
                way.cut()
                stage.wait("cut", "is taken back", lambda item: item["state"] in SETTLED)
                way.mend()
                stage.keep("cut")


@contextmanager
def small_node(stage: Stage) -> Iterator["subprocess.Popen[bytes]"]:
    """A launcher whose scratch folder is a file system of 32 MiB."""
    folder = made(stage.folder / "s")
    scratch = made(folder / "n")
    whose = () if os.geteuid() == 0 else ("--user", "--map-current-user", "--keep-caps")
    mounted = f'mount -t tmpfs -o size={SMALL_MIB}m,mode=711 none "{scratch}" && exec "$@"'
    room = ("--vcpus", "2", "--memory-mib", "11000", "--disk-mib", "1000", "--trusted-origin", NOBODY)
    folders = ("--scratch", str(scratch), "--cache", str(stage.cache))
    launcher = str(Path(sys.executable).with_name("launcher"))
    command = ("/usr/bin/unshare", *whose, "--mount", "sh", "-c", mounted, "sh", launcher, "run", *folders, *room)
    log = folder / "launcher.log"
    try:
        with stage.broker.home.running(log, *command) as process:
            yield process
    finally:
        count_vms_of(log)


def made(folder: Path) -> Path:
    folder.mkdir(mode=0o711)
    return folder


def pid_of(program: str, holds: Callable[[str], bool]) -> int:
    """Return the one process of this program that has such an argument."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name, *arguments = file.read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if program in name and any(map(holds, arguments)):
            found.append(int(file.parent.name))
    assert len(found) == 1, (program, found)
    return found[0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_vm_ends_with_its_verdict_and_its_item_as_that_says(seen: dict[str, dict[str, Any]], row: Row) -> None:
    item = seen[row.name]
    vm = item["vm"]
    reason = item.get("reason", {}).get("code", "")
    counts = (item.get("attempts", 0), item["boots"])
    state = f"{item['state']}{f' ({reason})' if reason else ''}, attempts {counts[0]}, boots {counts[1]}"
    note(Line(vm["verdict"], row.how, state, vm["sentence"]))
    assert (vm["verdict"], item["state"], counts) == (row.verdict, row.state, (row.attempts, 1)), item
    assert row.says in vm["sentence"]
    assert vm.get("has_console", False) == row.boots, vm
    if row.boots:
        assert ("a boot sector: up" in item["console"]) or ("vmbroker" in item["console"])


def test_every_verdict_there_is_was_provoked() -> None:
    assert {row.verdict for row in ROWS} == set(Verdict)

"""What the tests of launchers in batch jobs share: a broker, a researcher, alice, and what she pushes.

def test_something(scene: Scene, pool: CondorPool, condor: AccessPoint) -> None:
    scene.push("mine", 'sh -c "cp {input} {output}/copy"')
    condor.submit(1, "--idle", "10s", *scene.small)
    assert scene.settled("mine")[0]["state"] == "done"
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.grid import Broker, processes_naming
from tests.support.tally import count_booted
from tests.support.waiting import wait_until

MACHINE: Final = "minimal"
SETTLED: Final = frozenset({"done", "held", "cancelled"})
SMALL: Final = ("--vcpus", "1", "--memory-mib", "900", "--disk-mib", "4000", "--drain-s", "5", "--idle", "10s")
"""Of a job that holds one vm of the minimal machine, under emulation."""
COPY: Final = '/bin/sh -c "cp {input} {output}/copy"'
LONG: Final = '/bin/sh -c "cp {input} {output}/copy; sleep 600"'
"""A program that is still at work when trouble comes."""


@dataclass(frozen=True)
class Scene:
    """A broker with alice logged in, and her folder."""

    broker: Broker
    folder: Path

    def push(self, stream: str, program: str, *, count: int = 1) -> list[str]:
        """Add a stream of small, short items and push some; return their names, `alice/STREAM/1` and so on."""
        needs = ("--memory-mib", "384", "--disk-mib", "2000", "--run-limit", "30m")
        self.broker.home.ok("broker", "stream", "add", stream, "--machine", MACHINE, "--run", program, *needs)
        files = [self.folder / f"{stream}-{number}.txt" for number in range(1, count + 1)]
        for file in files:
            file.write_text(f"work of {file.name}\n")
        self.broker.home.ok("broker", "push", stream, *map(str, files))
        return [f"alice/{stream}/{number}" for number in range(1, count + 1)]

    def items(self, stream: str) -> list[dict[str, Any]]:
        return self.broker.items(stream)

    def wait(self, stream: str, states: frozenset[str], *, timeout_s: float = 120) -> list[dict[str, Any]]:
        """Wait until every item of a stream is in one of the states; return the items."""

        def arrived() -> bool:
            return all(item["state"] in states for item in self.items(stream))

        wait_until(arrived, f"{stream} is {' or '.join(sorted(states))}", timeout_s=timeout_s, poll_s=0.3)
        return self.items(stream)

    def settled(self, stream: str, *, timeout_s: float = 120) -> list[dict[str, Any]]:
        """Wait until every item of a stream is settled, and count its vms."""
        items = self.wait(stream, SETTLED, timeout_s=timeout_s)
        for item in items:
            if "vm" in item:
                count_booted(item["vm"]["dispatch"])
        return items

    def running(self, stream: str, *, timeout_s: float = 120) -> list[dict[str, Any]]:
        """Wait until every item of a stream is claimed by its vm."""
        return self.wait(stream, frozenset({"running"}), timeout_s=timeout_s)

    def why(self, what: str) -> str:
        return self.broker.home.ok("broker", "why", what)

    def cancel(self, stream: str) -> None:
        """Cancel what is not settled, so that no launcher takes it any more."""
        for item in self.items(stream):
            if item["state"] not in SETTLED:
                self.broker.home.run("broker", "cancel", item["item"])


def qemu_of(dispatch: str) -> list[int]:
    """Return the process ids of a vm's QEMU, known by its domain's UUID."""
    found = []
    for folder in Path("/proc").glob("[1-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "-uuid" in words and words[words.index("-uuid") + 1] == dispatch:
            found.append(int(folder.name))
    return found


def ancestors(pid: int) -> list[tuple[int, str]]:
    """Return a process's ancestors by id and name, itself first."""
    line: list[tuple[int, str]] = []
    while pid > 1:
        text = Path(f"/proc/{pid}/stat").read_text()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        line.append((pid, _name(words)))
        pid = int(text.rpartition(")")[2].split()[1])
    return line


def _name(words: list[str]) -> str:
    """Name a program; of one that its own loader starts, the program's name and not the loader's."""
    if "--argv0" in words:
        return Path(words[words.index("--argv0") + 1]).name
    if re.search(r"ld-linux[^/]*$", words[0]):
        words = [word for word in words[1:] if not word.startswith("-")][1:]
    return Path(words[0]).name if words else "?"


def nothing_left_of(folder: Path) -> list[str]:
    """Return the command lines of launchers, libvirtds and QEMUs that work below a folder."""
    lines = processes_naming(str(folder))
    return [line for line in lines if any(name in line for name in ("qemu-system", "libvirtd", "libexec/launcher run"))]

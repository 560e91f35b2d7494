"""What the tests of real virtual machines share: the guest images, and one grid for the whole package.

The grid is a broker with alice logged in and a launcher that runs two vms at a time; its folder has a short path. A
test names its own machines and streams, since they stay until the package is done:

    def test_something(grid: Grid, stock_image: Path) -> None:
        grid.add_machine("stock", stock_image)
        grid.add_stream("copies", "stock", '/bin/sh -c "cp {input} {output}/copy"')
        grid.push("copies", grid.file("a.txt", b"work of a"))
        item = grid.settled("copies", timeout_s=240)[0]
        assert item["state"] == "done", grid.story("copies/1")
        assert grid.outputs("copies")["copy"] == b"work of a"

Under emulation a vm takes seconds to minutes: push what several tests look at from one fixture, so that two run at
once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import verdict_table
from tests.support.grid import REPOSITORY, Broker, Home, built_image, free_port
from tests.support.guestfs import guestfs_environment
from tests.support.launching import launched, short_folder
from tests.support.waiting import wait_until

DOMAIN = REPOSITORY / "tests" / "support" / "domains" / "minimal.xml"
"""A desktop's export of a machine with one virtio disk, `vda`: good for every image that deploy/image builds."""
SETTLED = {"done", "held", "cancelled"}
VMS = 2


@dataclass(frozen=True)
class Grid:
    """A broker, a launcher and a researcher, alice. `folder` is alice's: what a test puts there goes with the grid."""

    broker: Broker
    folder: Path
    launcher_log: Path

    @property
    def home(self) -> Home:
        """Where alice's commands run: `home.ok("broker", …)` must succeed, `home.run(…)` may fail."""
        return self.broker.home

    def file(self, name: str, content: bytes) -> Path:
        """Make a file of alice's to push."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def add_machine(self, name: str, image: Path, domain: Path = DOMAIN, target: str = "vda") -> None:
        """Hand a machine over whose one disk, `target` in the XML, is `image`."""
        self.home.ok("broker", "machine", "add", name, str(domain), "--disk", f"{target}={image}", timeout_s=300)

    def add_stream(self, name: str, machine: str, program: str, *arguments: str) -> None:
        """Add a stream whose items are tried once. `arguments` are further ones of `broker stream add`."""
        command = ("broker", "stream", "add", name, "--machine", machine, "--run", program, "--attempts", "1")
        self.home.ok(*command, "--boots", "1", *arguments)

    def push(self, stream: str, *inputs: Path | str) -> None:
        """Push an item for each input, a file of alice's or a URL."""
        self.home.ok("broker", "push", stream, *map(str, inputs), timeout_s=300)

    def settled(self, stream: str, *, timeout_s: float) -> list[dict[str, Any]]:
        """Wait until every item of the stream is settled; return them as the broker's API tells them."""

        def all_settled() -> bool:
            return all(item["state"] in SETTLED for item in self.broker.items(stream))

        wait_until(all_settled, f"{stream} is settled", timeout_s=timeout_s, poll_s=0.5)
        return self.broker.items(stream)

    def ended(self, stream: str, *, timeout_s: float) -> list[dict[str, Any]]:
        """Wait until, besides, their vms have ended: consoles are told then, when the items are done already."""

        def all_ended() -> bool:
            return all(item.get("vm", {}).get("verdict") for item in self.broker.items(stream))

        self.settled(stream, timeout_s=timeout_s)
        wait_until(all_ended, f"the vms of {stream} have ended", timeout_s=60, poll_s=0.5)
        return self.broker.items(stream)

    def outputs(self, stream: str) -> dict[str, bytes]:
        """Download the outputs of the stream's done items; return contents by file name, digests verified."""
        folder = self.folder / "outputs" / stream
        said = self.home.run("broker", "results", stream, "--download", str(folder), "--force", timeout_s=300)
        assert "sizes and digests verified" in said.err, said
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def story(self, item: str) -> str:
        """Return what is known of an item, for a failing assertion: why it is where it is, and its vm's console."""
        commands = (("why", item), ("console", item), ("logs", item))
        return "\n".join(f"--- {name} ---\n{self.home.run('broker', name, of).out}" for name, of in commands)


@pytest.fixture(scope="package")
def grid() -> Iterator[Grid]:
    """The package's one broker and launcher, as the account that runs the tests."""
    with short_folder("vm-") as folder:
        broker = Broker(Home(folder, guestfs_environment(folder)), free_port())
        with broker.serving(), launched(broker, folder, "--vms", str(VMS)) as log:
            yield Grid(broker, folder, log)


@pytest.fixture(scope="session")
def minimal_image() -> Path:
    """Busybox and the stub's equivalent; up in seconds, network and client only."""
    return built_image("minimal")


@pytest.fixture(scope="session")
def exchange_image() -> Path:
    """Busybox, a generic kernel, ext4 root on any bus, and the start-up script for shares and disks."""
    return built_image("exchange")


@pytest.fixture(scope="session")
def stock_image() -> Path:
    """Debian 11 with systemd, glibc 2.31 and curl; no Python, nothing of vmbroker; root is logged in on ttyS0."""
    return built_image("stock")


@pytest.fixture(scope="session")
def cloud_image() -> Path:
    """Debian with cloud-init, nothing of vmbroker."""
    return built_image("cloud")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    verdict_table.show(terminalreporter)

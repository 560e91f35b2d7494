"""A bundle made here and carried to nodes of other releases, which have what a site installs there and no Python.

Each node's own libvirtd and QEMU run the vm; of vmbroker nothing is there but the bundle's folder.
"""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.grid import Broker, Home, free_port, processes_naming
from tests.support.launching import count_vms_of, short_folder
from tests.support.roots import SHARED, built_root, run_in_root, running_in_root
from tests.support.waiting import wait_until
from tests.vm.conftest import Grid

pytestmark = [pytest.mark.vm, pytest.mark.bundle, pytest.mark.timeout(300)]

BUNDLE_LIMIT_S = 240
ITEM_LIMIT_S = 150
DOCTOR_LIMIT_S = 180
PLACE = "a site's tools"
"""Where each node has the bundle: a folder whose name a careless script would take apart."""
ROOTS = {"root-debian11": ("7.", "5."), "root-debian12": ("9.", "7."), "root-debian13": ("11.", "10.")}
"""How the versions of each release's libvirt and QEMU begin."""


@dataclass(frozen=True)
class Node:
    """A clean root with the bundle unpacked, and the folder that it sees as `SHARED`."""

    name: str
    root: Path
    folder: Path

    @property
    def launcher(self) -> Path:
        """The launcher's path as the node sees it: a link to the bundle's own."""
        return SHARED / "launcher"

    @property
    def log(self) -> Path:
        return self.folder / "launcher.log"


@pytest.fixture(scope="module")
def grid() -> Iterator[Grid]:
    """A broker alone; the launchers are the nodes'."""
    with short_folder("vb-") as folder:
        broker = Broker(Home(folder), free_port())
        with broker.serving():
            yield Grid(broker, folder, folder / "none.log")


@pytest.fixture(scope="module")
def bundle(grid: Grid) -> Path:
    archive = grid.folder / "bundle.tar.gz"
    said = grid.home.ok("launcher", "bundle", "-o", str(archive), timeout_s=BUNDLE_LIMIT_S)
    assert "MiB" in said
    return archive


@pytest.fixture(scope="module")
def image(grid: Grid, minimal_image: Path) -> Path:
    """The minimal image in a form that every QEMU reads: Debian 11's knows no zstd."""
    image = grid.folder / "minimal.qcow2"
    command = ["qemu-img", "convert", "-c", "-O", "qcow2", str(minimal_image), str(image)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return image


@pytest.fixture(params=ROOTS)
def node(request: pytest.FixtureRequest, grid: Grid, bundle: Path) -> Iterator[Node]:
    folder = grid.folder / request.param
    place = folder / PLACE
    place.mkdir(parents=True)
    folder.chmod(0o711)
    subprocess.run(["tar", "-xzf", bundle, "-C", place], check=True, timeout=60)
    (top,) = place.iterdir()
    (folder / "launcher").symlink_to(Path(PLACE, top.name, "bin", "launcher"))
    yield Node(request.param, built_root(request.param), folder)
    shutil.rmtree(folder)


def test_runs_an_item_on_a_node_with_its_own_libvirt_and_qemu(node: Node, grid: Grid, image: Path) -> None:
    assert not list(node.root.glob("usr/bin/python3*"))
    token = node.folder / "token"
    token.touch(mode=0o600)
    token.write_text(grid.broker.token("launcher"))
    grid.add_machine(node.name, image)
    grid.add_stream(node.name, node.name, '/bin/sh -c "cp {input} {output}/copy"')
    grid.push(node.name, grid.file(f"{node.name}.txt", node.name.encode()))

    run = (node.launcher, "run", "--broker", grid.broker.url, "--token-file", SHARED / "token")
    folders = ("--scratch", SHARED / "n", "--cache", SHARED / "c")
    with running_in_root(node.root, node.folder, node.log, *run, *folders) as process:
        wait_until(
            lambda: process.poll() is not None or grid.broker.items(node.name)[0]["state"] in {"done", "held"},
            f"the item of {node.name} is settled",
            timeout_s=ITEM_LIMIT_S,
            poll_s=0.5,
        )
    count_vms_of(node.log)

    item = grid.broker.items(node.name)[0]
    assert item["state"] == "done", f"{node.log.read_text()}\n{grid.story(f'{node.name}/1')}"
    assert grid.outputs(node.name) == {"copy": node.name.encode()}
    libvirt, qemu = ROOTS[node.name]
    facts = item["vm"]["facts"]
    assert facts["libvirt"].startswith(libvirt), facts
    assert facts["qemu"].startswith(qemu), facts
    assert not processes_naming(str(node.folder))
    assert not processes_naming(str(node.launcher.parent))


def test_says_its_version_and_that_a_launcher_runs_here_without_any_environment(node: Node) -> None:
    assert run_in_root(node.root, node.folder, node.launcher, "--version").startswith("launcher ")
    folders = ("--scratch", SHARED / "n", "--cache", SHARED / "c")
    doctor = (node.launcher, "doctor", "--site", *folders)
    assert "a launcher runs here" in run_in_root(node.root, node.folder, *doctor, timeout_s=DOCTOR_LIMIT_S)

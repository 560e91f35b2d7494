"""What the tests of batch systems share: an HTCondor pool and a Slurm, each of an ordinary account of this machine.

    def test_something(pool: CondorPool) -> None:
        said = subprocess.run([*pool.account_words(), "launcher", "jobs"], cwd=pool.home, ...)

Both stay for the whole session: a test waits for its own jobs alone, and puts back what it changes.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.grid.scene import MACHINE, Scene
from tests.support.access_point import AccessPoint, Bundle, access_point
from tests.support.condor_pool import CondorPool, condor_pool
from tests.support.grid import REPOSITORY, Broker, Home, built_image, free_port
from tests.support.launching import short_folder
from tests.support.slurm_cluster import SlurmCluster, slurm_cluster

_DOMAIN = REPOSITORY / "tests" / "support" / "domains" / "minimal.xml"
# What was killed is given back within a quarter of a minute.
_HURRIED = {
    "VMBROKER_BROKER_HEARTBEAT_S": "3",
    "VMBROKER_BROKER_LEASE_S": "15",
    "VMBROKER_BROKER_LAUNCHER_GRACE_S": "12",
}
_KERNEL_SETTINGS = Path("/proc/sys")
_LIMIT_BYTES = 65536
# What the kernel counts, measures or draws anew at each reading, and is no setting.
_COUNTED = (
    "/proc/sys/fs/aio-nr",
    "/proc/sys/fs/dentry-state",
    "/proc/sys/fs/file-nr",
    "/proc/sys/fs/inode-nr",
    "/proc/sys/fs/inode-state",
    "/proc/sys/fs/quota/",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/kernel/perf_event_max_sample_rate",
    "/proc/sys/kernel/pty/nr",
    "/proc/sys/kernel/random/",
    "/proc/sys/net/netfilter/nf_conntrack_count",
)


@dataclass(frozen=True)
class Machine:
    """What a batch system must leave as it is: the kernel's settings by their files, and Debian's list of packages."""

    kernel: dict[str, bytes]
    packages: str

    @classmethod
    def now(cls) -> "Machine":
        files = [path for path in _KERNEL_SETTINGS.rglob("*") if path.is_file() and not str(path).startswith(_COUNTED)]
        kernel = {str(path): content for path in files if (content := _read(path)) is not None}
        packages = subprocess.run(["dpkg-query", "--show"], capture_output=True, text=True, timeout=30, check=True)
        return cls(kernel, packages.stdout)


@pytest.fixture(scope="session")
def machine_before() -> Machine:
    """The machine before any batch system was started on it."""
    return Machine.now()


@pytest.fixture(scope="session")
def pool(machine_before: Machine) -> Iterator[CondorPool]:
    """An HTCondor pool whose node can run vms."""
    with short_folder("pool-") as folder, condor_pool(folder) as pool:
        yield pool


@pytest.fixture(scope="session")
def slurm(machine_before: Machine) -> Iterator[SlurmCluster]:
    """A Slurm whose node can run vms, with PBS's commands."""
    with short_folder("slurm-") as folder, slurm_cluster(folder) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def scene() -> Iterator[Scene]:
    """A broker with alice logged in and the minimal machine handed over; no launcher of its own."""
    with short_folder("grid-") as folder:
        broker = Broker(Home(folder, _HURRIED), free_port())
        with broker.serving():
            image = built_image("minimal")
            broker.home.ok("broker", "machine", "add", MACHINE, str(_DOMAIN), "--disk", f"vda={image}", timeout_s=300)
            yield Scene(broker, folder)


@pytest.fixture(scope="session")
def bundle(scene: Scene) -> Iterator[Bundle]:
    """A bundle that everybody may read, and an unpacked copy."""
    with short_folder("bundle-") as folder:
        yield Bundle.make(folder / "b", scene.broker.home)


@pytest.fixture(scope="session")
def condor(pool: CondorPool, bundle: Bundle, scene: Scene) -> Iterator[AccessPoint]:
    """The pool's access point."""
    token = scene.broker.token("launcher")
    with access_point("htcondor", pool.account_words(), pool.home, bundle, scene.broker.url, token) as point:
        yield point


@pytest.fixture(scope="session", params=["slurm", "pbs"])
def login_node(
    request: pytest.FixtureRequest, slurm: SlurmCluster, bundle: Bundle, scene: Scene
) -> Iterator[AccessPoint]:
    """The login node of a cluster that shares its file system, once by Slurm's own commands and once by PBS's."""
    token = scene.broker.token("launcher")
    with access_point(request.param, slurm.account_words(), slurm.home, bundle, scene.broker.url, token) as point:
        yield point


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_LIMIT_BYTES)
    except OSError:  # some can only be written to, others belong to a device that is gone
        return None

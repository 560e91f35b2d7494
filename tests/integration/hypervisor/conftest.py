import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from launcher.hypervisor.account import Account
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.hypervisor.private_daemon import PrivateDaemon, private_daemon
from launcher.hypervisor.vm import Vm
from tests.integration.hypervisor.guests import Guest
from tests.integration.hypervisor.processes import descendants

StartGuest = Callable[[Guest], Awaitable[Vm]]
Started = Callable[[], list[int]]


@pytest.fixture
def account() -> Account:
    return Account.choose()


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A slot's scratch folder: with a short path, and with parents that every account may enter, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="vmb-test-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def daemon(scratch: Path, account: Account) -> AsyncIterator[PrivateDaemon]:
    async with private_daemon(scratch / "libvirt", account, show_kvm=False) as daemon:
        yield daemon


@pytest.fixture
async def hypervisor(daemon: PrivateDaemon) -> AsyncIterator[Hypervisor]:
    async with Hypervisor(
        daemon.uri,
        log_folder=daemon.log_folder,
        poll_s=0.5,
        silence_limit_s=5.0,
        restart=daemon.restart,
        autodestroy=False,
    ) as hypervisor:
        yield hypervisor


@pytest.fixture
def start(hypervisor: Hypervisor, scratch: Path, account: Account) -> StartGuest:
    async def start(guest: Guest) -> Vm:
        return await hypervisor.start_vm(guest.on_file(guest.make_disk(scratch, account)))

    return start


@pytest.fixture(scope="package", autouse=True)
def others() -> frozenset[int]:
    """This process's descendants that belong to other tests, whose servers live as long as the run."""
    return frozenset(descendants(os.getpid()))


@pytest.fixture
def started(others: frozenset[int]) -> Started:
    """Tell what this package's tests have started and still runs."""
    return lambda: [pid for pid in descendants(os.getpid()) if pid not in others]

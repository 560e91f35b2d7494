import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import launcher.hypervisor.keeper
from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.hypervisor.private_daemon import PrivateDaemon, private_daemon
from launcher.hypervisor.short_names import LONGEST_FOLDER_BYTES, SHORT_NAMES_FOLDER
from tests.integration.hypervisor.conftest import Started, StartGuest
from tests.integration.hypervisor.guests import IDLE, Guest
from tests.integration.hypervisor.processes import descendants, named, status, wait_gone

LIMIT_S = 30
IS_ROOT = os.geteuid() == 0
REPOSITORY = Path(__file__).parents[3]


def nobody_can_run_us() -> bool:
    """Whether another account may run this Python with this checkout's code."""
    command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", sys.executable, "-I", "-S", "-c"]
    code = f"open({launcher.hypervisor.keeper.__file__!r})"
    return subprocess.run([*command, code], check=False, capture_output=True, timeout=LIMIT_S).returncode == 0


ACCOUNTS = [
    pytest.param([], id="own-account"),
    pytest.param(
        ["nobody"],
        id="nobody",
        marks=pytest.mark.skipif(
            not IS_ROOT or not nobody_can_run_us(),
            reason="only root can become nobody, where that may read the checkout and run its Python",
        ),
    ),
]


@pytest.mark.vm
@pytest.mark.parametrize("folder_name", ["short", "a-long-name-" * 9])
@pytest.mark.parametrize("becomes", ACCOUNTS)
async def test_a_killed_launcher_leaves_no_process_and_no_short_name(
    scratch: Path, becomes: list[str], folder_name: str
) -> None:
    folder = scratch / folder_name
    folder.mkdir()
    for name in becomes:
        shutil.chown(folder, name)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.hypervisor.launcher_process", str(folder), *becomes),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        assert await process.stdout.readline() == b"running\n"
    left_behind = descendants(process.pid)
    assert len(named(left_behind, "qemu-system")) == 1
    process.kill()
    await process.wait()
    await wait_gone(left_behind, LIMIT_S)
    assert not [
        link for link in SHORT_NAMES_FOLDER.glob("vmb-*") if link.is_symlink() and folder in link.readlink().parents
    ]


@pytest.mark.vm
async def test_qemu_has_an_unprivileged_account_no_capability_and_none_of_our_namespaces(
    start: StartGuest, account: Account, started: Started
) -> None:
    await start(Guest(IDLE))
    for pid in [*named(started(), "qemu-system"), *named(started(), "libvirtd")]:
        told = status(pid)
        assert set(told["Uid"].split()) == {str(account.uid)} != {"0"}
        assert set(told["Gid"].split()) == {str(account.gid)} != {"0"}
        assert int(told["CapPrm"], 16) == int(told["CapEff"], 16) == int(told["CapAmb"], 16) == 0
        assert told["NoNewPrivs"] == "1"
        for namespace in ("mnt", "net", "pid", "ipc"):
            assert Path(f"/proc/{pid}/ns/{namespace}").readlink() != Path(f"/proc/self/ns/{namespace}").readlink()


def kvm_as_seen_by(pid: int) -> os.stat_result | None:
    try:
        return Path(f"/proc/{pid}/root/dev/kvm").stat()
    except FileNotFoundError:
        return None


@pytest.mark.parametrize("show_kvm", [False, True])
async def test_kvm_is_seen_inside_only_if_it_is_to_be(
    scratch: Path, account: Account, started: Started, show_kvm: bool
) -> None:
    async with private_daemon(scratch / "libvirt", account, show_kvm=show_kvm):
        seen = kvm_as_seen_by(named(started(), "libvirtd")[0])
    if show_kvm:
        assert (seen and seen.st_mode) == (Path("/dev/kvm").stat().st_mode if Path("/dev/kvm").exists() else None)
    else:
        assert seen is None or (stat.S_ISREG(seen.st_mode) and stat.S_IMODE(seen.st_mode) == 0)


async def test_nothing_of_the_launchers_environment_gets_inside(
    scratch: Path, account: Account, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEARER_TOKEN", "a-secret")
    async with private_daemon(scratch / "libvirt", account, show_kvm=False):
        inside = started()
        assert len(inside) >= 3
        for pid in inside:
            assert b"a-secret" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.vm
async def test_a_folder_with_a_long_path_does(scratch: Path, account: Account) -> None:
    folder = scratch / "long" / ("x" * 150)
    assert len(bytes(folder)) > 107 > LONGEST_FOLDER_BYTES
    guest = Guest(IDLE)
    async with (
        private_daemon(folder, account, show_kvm=False) as daemon,
        Hypervisor(daemon.uri, autodestroy=False) as hypervisor,
    ):
        vm = await hypervisor.start_vm(guest.on_file(guest.make_disk(scratch, account)))
        assert await hypervisor.list_vms() == [vm]
        assert len(bytes(daemon.socket_folder)) <= 48
        short = daemon.socket_folder.parent
        assert short.is_symlink()
    assert not short.is_symlink()


def ask_inside(pid: int, code: str) -> str:
    """Run Python in the network that a process of the private daemon lives in."""
    namespaces = ["--net"] if IS_ROOT else ["--user", "--net", "--preserve-credentials"]
    command = ["nsenter", f"--target={pid}", *namespaces, sys.executable, "-I", "-S", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S).stdout.strip()


async def test_the_listener_is_the_one_way_out_of_the_guests_network(daemon: PrivateDaemon, started: Started) -> None:
    inside = named(started(), "libvirtd")[0]
    interfaces = await asyncio.to_thread(ask_inside, inside, "import socket; print(socket.if_nameindex())")
    routes = await asyncio.to_thread(ask_inside, inside, "print(len(open('/proc/self/net/route').readlines()) - 1)")
    assert (interfaces.count("'lo'"), routes) == (1, "0")
    hello = "import socket; print(socket.create_connection(('127.0.0.1', 3128), 5).recv(9))"
    asking = asyncio.create_task(asyncio.to_thread(ask_inside, inside, hello))
    daemon.listener.setblocking(False)
    async with asyncio.timeout(LIMIT_S):
        connection, _ = await asyncio.get_running_loop().sock_accept(daemon.listener)
        with connection:
            connection.sendall(b"outside")
        assert await asking == "b'outside'"


async def test_a_folder_in_use_by_another_launcher_is_refused(
    daemon: PrivateDaemon, scratch: Path, account: Account
) -> None:
    with pytest.raises(HypervisorError, match="give each launcher its own scratch folder"):
        async with private_daemon(scratch / "libvirt", account, show_kvm=False):
            raise AssertionError("two launchers in one folder")


async def test_a_folder_is_used_again_after_a_launcher_has_left_it(scratch: Path, account: Account) -> None:
    for _ in range(2):
        async with private_daemon(scratch / "libvirt", account, show_kvm=False) as daemon:
            assert daemon.listener.getsockname() == ("127.0.0.1", 3128)


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user's QEMU reaches whatever the launcher does")
async def test_a_folder_that_qemus_account_cannot_reach_is_refused(scratch: Path, account: Account) -> None:
    closed = scratch / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(HypervisorError, match="choose a scratch folder below folders that everybody may enter"):
        async with private_daemon(closed / "libvirt", account, show_kvm=False):
            raise AssertionError("the account was let in")


async def test_a_node_that_forbids_namespaces_is_told_what_to_ask_for(scratch: Path) -> None:
    # A user namespace in which no further one may be made stands for a node that forbids them to ordinary users.
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--user", "--map-user=65534", "--map-group=65534", "--keep-caps", "sh", "-c", forbid, "sh"),
        *(sys.executable, "-m", "tests.integration.hypervisor.launcher_process", str(scratch)),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LIMIT_S):
        _, errors = await process.communicate()
    assert b"ask its administrator for unprivileged user namespaces" in errors.splitlines()[-1]


async def test_a_keeper_that_is_killed_is_told_and_leaves_no_process(daemon: PrivateDaemon, started: Started) -> None:
    inside = started()
    os.kill(named(inside, "python")[0], signal.SIGKILL)
    async with asyncio.timeout(LIMIT_S):
        assert await daemon.wait_ended() == "the private libvirtd's keeper was killed"
    await wait_gone(inside, LIMIT_S)


@pytest.mark.vm
async def test_a_termination_signal_to_every_keeper_leaves_the_vms_to_the_launcher(
    hypervisor: Hypervisor, start: StartGuest, started: Started
) -> None:
    vm = await start(Guest(IDLE))
    for pid in named(started(), "python"):
        os.kill(pid, signal.SIGTERM)
    assert await hypervisor.list_vms() == [vm]


async def test_a_start_given_up_leaves_no_process(scratch: Path, account: Account, started: Started) -> None:
    async def run() -> None:
        async with private_daemon(scratch / "libvirt", account, show_kvm=False):
            raise AssertionError("started before it could be given up")

    starting = asyncio.create_task(run())
    async with asyncio.timeout(LIMIT_S):
        while not (inside := started()):  # noqa: ASYNC110 - nothing tells about a child's start
            await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await wait_gone(inside, LIMIT_S)

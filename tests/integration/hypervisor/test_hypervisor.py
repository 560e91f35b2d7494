import asyncio
import contextlib
import functools
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from structlog.testing import capture_logs

from launcher.hypervisor import qemu_logs
from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import Conflict, Rejected, Unavailable
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.hypervisor.private_daemon import PrivateDaemon
from launcher.hypervisor.vm import StopReason, Vm
from tests.integration.hypervisor.conftest import Started, StartGuest
from tests.integration.hypervisor.guests import (
    ARM_WATCHDOG,
    IDLE,
    METADATA_NAMESPACE,
    PANIC,
    POWER_OFF,
    WRITE_DISK,
    Guest,
)
from tests.integration.hypervisor.processes import named

pytestmark = pytest.mark.vm

LIMIT_S = 30


async def stop_of(hypervisor: Hypervisor, uuid: str) -> StopReason:
    async with asyncio.timeout(LIMIT_S):
        return await hypervisor.wait_stopped(uuid)


async def has_vms(hypervisor: Hypervisor, count: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while len(await hypervisor.list_vms()) != count:  # noqa: ASYNC110 - libvirt has to be asked
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param(POWER_OFF, StopReason.GUEST_SHUTDOWN, id="power-off"),
        pytest.param(PANIC, StopReason.CRASHED, id="panic"),
        pytest.param(ARM_WATCHDOG, StopReason.HUNG, id="watchdog"),
    ],
)
async def test_why_a_guest_stopped_is_told(
    hypervisor: Hypervisor, start: StartGuest, code: bytes, reason: StopReason
) -> None:
    vm = await start(Guest(code))
    assert await stop_of(hypervisor, vm.uuid) is reason
    await has_vms(hypervisor, 0)


async def test_a_vm_is_known_by_the_uuid_and_name_of_its_xml(hypervisor: Hypervisor, start: StartGuest) -> None:
    guest = Guest(IDLE)
    assert await start(guest) == Vm(guest.uuid, guest.name)


async def test_a_destroyed_vm_is_told_to_its_watcher_and_destroying_it_again_does_nothing(
    hypervisor: Hypervisor, start: StartGuest
) -> None:
    vm = await start(Guest(IDLE))
    watching = asyncio.create_task(stop_of(hypervisor, vm.uuid))
    await hypervisor.destroy(vm.uuid)
    assert await watching is StopReason.DESTROYED
    await hypervisor.destroy(vm.uuid)


async def test_a_killed_qemu_is_told(hypervisor: Hypervisor, start: StartGuest, started: Started) -> None:
    vm = await start(Guest(IDLE))
    for pid in named(started(), "qemu-system"):
        os.kill(pid, signal.SIGKILL)
    assert await stop_of(hypervisor, vm.uuid) is StopReason.FAILED


@pytest.fixture
def full_disk(scratch: Path, account: Account) -> Iterator[tuple[Guest, Path]]:
    """A guest's disk, served by NBD, on which every write fails for want of space."""
    guest = Guest(WRITE_DISK)
    disk, nbd = guest.make_disk(scratch, account), scratch / "nbd"
    errors = "inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.errno=28"
    image = f"driver=blkdebug,{errors},image.driver=file,image.filename={disk}"
    pid_file = scratch / "nbd.pid"
    arguments = ["qemu-nbd", "--fork", "--persistent", f"--pid-file={pid_file}", f"--socket={nbd}"]
    subprocess.run([*arguments, "--image-opts", image], check=True, timeout=LIMIT_S)
    account.take(nbd)
    yield guest, nbd
    os.kill(int(pid_file.read_text()), signal.SIGTERM)


async def test_a_guest_paused_for_want_of_space_is_told_and_can_be_destroyed(
    hypervisor: Hypervisor, full_disk: tuple[Guest, Path]
) -> None:
    guest, nbd = full_disk
    vm = await hypervisor.start_vm(guest.on_nbd(nbd))
    assert await stop_of(hypervisor, vm.uuid) is StopReason.OUT_OF_SPACE
    assert await hypervisor.list_vms() == [vm]
    await hypervisor.destroy(vm.uuid)
    assert await hypervisor.list_vms() == []


async def test_a_vm_that_nobody_knows_is_gone(hypervisor: Hypervisor) -> None:
    assert await stop_of(hypervisor, Guest(IDLE).uuid) is StopReason.GONE


async def test_a_stop_is_told_though_its_event_is_lost(
    hypervisor: Hypervisor, start: StartGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypervisor._connection, "_on_lifecycle", lambda *_: None)
    vm = await start(Guest(POWER_OFF))
    assert await stop_of(hypervisor, vm.uuid) is StopReason.GONE


async def test_an_event_that_gives_no_reason_does_not_end_the_wait_for_the_one_that_does(
    hypervisor: Hypervisor,
) -> None:
    uuid = Guest(IDLE).uuid
    waiting = asyncio.create_task(hypervisor._watches.of(uuid).last_word())
    for event, detail in (
        (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN),
    ):
        await asyncio.sleep(0)
        hypervisor._on_lifecycle(uuid, event, detail)
    assert await waiting is StopReason.GUEST_SHUTDOWN


async def test_vms_go_with_the_hypervisor_that_started_them(
    daemon: PrivateDaemon, hypervisor: Hypervisor, scratch: Path, account: Account
) -> None:
    guest = Guest(IDLE)
    async with Hypervisor(daemon.uri) as other:
        vm = await other.start_vm(guest.on_file(guest.make_disk(scratch, account)))
        assert await hypervisor.list_vms() == [vm]
        watching = asyncio.create_task(stop_of(hypervisor, vm.uuid))
    assert await watching is StopReason.DESTROYED
    assert await hypervisor.list_vms() == []


def break_connections(libvirt_socket: str) -> None:
    """Shut down every socket of this process that is connected there."""
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(descriptor.name))) as ours:
            if ours.getpeername() == libvirt_socket:
                ours.shutdown(socket.SHUT_RDWR)


async def test_after_a_broken_connection_its_vms_live_on_and_the_next_call_opens_a_new_one(
    daemon: PrivateDaemon, hypervisor: Hypervisor, start: StartGuest
) -> None:
    vm = await start(Guest(IDLE))
    watching = asyncio.create_task(stop_of(hypervisor, vm.uuid))
    break_connections(str(daemon.socket_folder / "libvirt-sock"))
    assert await hypervisor.list_vms() == [vm]
    await hypervisor.destroy(vm.uuid)
    assert await watching is StopReason.DESTROYED
    assert await stop_of(hypervisor, (await start(Guest(POWER_OFF))).uuid) is StopReason.GUEST_SHUTDOWN


async def test_qemus_log_goes_with_its_vm_however_that_ended(
    daemon: PrivateDaemon, hypervisor: Hypervisor, start: StartGuest
) -> None:
    ended, other = await start(Guest(POWER_OFF)), await start(Guest(IDLE))
    await stop_of(hypervisor, ended.uuid)
    failed = Guest(IDLE)
    with pytest.raises(Unavailable):
        await hypervisor.start_vm(failed.on_file(Path("/nowhere")))
    assert logs_of(daemon) == {ended.name, other.name, failed.name}
    for uuid in (ended.uuid, failed.uuid):
        await hypervisor.destroy(uuid)
    assert logs_of(daemon) == {other.name}
    await hypervisor.destroy(other.uuid)
    assert logs_of(daemon) == set()


async def test_the_log_of_a_start_given_up_goes_too(
    daemon: PrivateDaemon, hypervisor: Hypervisor, scratch: Path, account: Account
) -> None:
    guest = Guest(IDLE)
    starting = asyncio.create_task(hypervisor.start_vm(guest.on_file(guest.make_disk(scratch, account))))
    await has_vms(hypervisor, 1)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await hypervisor.destroy(guest.uuid)
    async with asyncio.timeout(LIMIT_S):
        while logs_of(daemon):  # noqa: ASYNC110 - what was given up goes in a thread of its own
            await asyncio.sleep(0.01)


async def test_the_log_of_a_qemu_that_complains_without_end_stays_small(
    daemon: PrivateDaemon, hypervisor: Hypervisor, start: StartGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu_logs, "LIMIT_BYTES", 10_000)
    vm = await start(Guest(IDLE))
    path = daemon.log_folder / f"{vm.name}.log"
    with path.open("ab") as qemu:
        qemu.write(b"x" * 10_000)
    watching = asyncio.create_task(stop_of(hypervisor, vm.uuid))
    async with asyncio.timeout(LIMIT_S):
        while path.stat().st_size > 0:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    await hypervisor.destroy(vm.uuid)
    await watching


async def test_another_file_under_a_logs_name_is_not_emptied(
    daemon: PrivateDaemon, hypervisor: Hypervisor, start: StartGuest, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu_logs, "LIMIT_BYTES", 0)
    vm = await start(Guest(IDLE))
    secret = scratch / "shadow"
    secret.write_bytes(b"secret")
    path = daemon.log_folder / f"{vm.name}.log"
    path.unlink()
    path.symlink_to(secret)
    with capture_logs() as logged:
        watching = asyncio.create_task(stop_of(hypervisor, vm.uuid))
        async with asyncio.timeout(LIMIT_S):
            while not logged:  # noqa: ASYNC110 - nothing else tells that it was looked at
                await asyncio.sleep(0.01)
        await hypervisor.destroy(vm.uuid)
        await watching
    assert logged[0]["event"] == "qemu_log_not_bounded"
    # libvirtd of the launcher's own account may append to what it finds there; nobody has emptied it.
    assert secret.read_bytes().startswith(b"secret")
    assert not path.is_symlink()


def logs_of(daemon: PrivateDaemon) -> set[str]:
    return {path.stem for path in daemon.log_folder.glob("*.log")}


async def test_listing_can_leave_out_what_does_not_carry_our_metadata(
    hypervisor: Hypervisor, start: StartGuest
) -> None:
    ours, other = await start(Guest(IDLE)), await start(Guest(IDLE, metadata=""))
    assert await hypervisor.list_vms(METADATA_NAMESPACE) == [ours]
    assert sorted(vm.uuid for vm in await hypervisor.list_vms()) == sorted([ours.uuid, other.uuid])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<vcpu>1</vcpu>", "<vcpu>many</vcpu>"),
        ("<memory", "<memories"),
        ("machine='pc'", "machine='pc-of-2031'"),
        ("type='qemu'>", "type='lxc'>"),
        ("</domain>", ""),
    ],
)
async def test_xml_that_libvirt_does_not_accept_is_rejected(hypervisor: Hypervisor, old: str, new: str) -> None:
    with pytest.raises(Rejected):
        await hypervisor.start_vm(Guest(IDLE).on_file(Path("/nowhere")).replace(old, new))


async def test_a_disk_that_cannot_be_opened_makes_the_vm_unavailable(hypervisor: Hypervisor) -> None:
    with pytest.raises(Unavailable, match="/nowhere"):
        await hypervisor.start_vm(Guest(IDLE).on_file(Path("/nowhere")))


async def test_a_second_vm_of_the_same_uuid_is_a_conflict(
    hypervisor: Hypervisor, start: StartGuest, scratch: Path, account: Account
) -> None:
    guest = Guest(IDLE)
    await start(guest)
    with pytest.raises(Conflict):
        await start(guest)


async def test_a_start_given_up_leaves_no_vm(hypervisor: Hypervisor, scratch: Path, account: Account) -> None:
    await hypervisor.list_vms()
    guest = Guest(IDLE)
    starting = asyncio.create_task(hypervisor.start_vm(guest.on_file(guest.make_disk(scratch, account))))
    await has_vms(hypervisor, 1)
    assert not starting.done()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await has_vms(hypervisor, 0)


async def test_capabilities_name_the_machines_that_xml_can_ask_for(hypervisor: Hypervisor) -> None:
    capabilities = await hypervisor.capabilities()
    assert capabilities.machines[capabilities.machines["q35"]] == capabilities.machines["q35"]
    assert capabilities.machines["pc"].startswith("pc-i440fx-")
    assert Path(capabilities.emulator).is_file()
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    version = (await asyncio.to_thread(run, [capabilities.emulator, "--version"])).stdout
    assert f"version {capabilities.qemu_version}" in version
    assert capabilities.libvirt_version.count(".") == 2


async def test_a_libvirt_that_is_not_there_is_unavailable(scratch: Path) -> None:
    async with Hypervisor(f"qemu+unix:///session?socket={scratch}/none") as hypervisor:
        with pytest.raises(Unavailable):
            await hypervisor.list_vms()

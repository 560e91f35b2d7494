"""libvirtd dies, and its vms do not."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import Unavailable
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.hypervisor.keeper import MAX_RESTARTS
from launcher.hypervisor.private_daemon import PrivateDaemon, private_daemon
from launcher.hypervisor.vm import StopReason
from tests.integration.hypervisor.conftest import Started, StartGuest
from tests.integration.hypervisor.guests import IDLE, POWER_OFF, Guest
from tests.integration.hypervisor.processes import is_running, named, wait_gone

pytestmark = pytest.mark.vm

LIMIT_S = 60


def libvirtd(started: Started) -> int:
    (pid,) = named(started(), "libvirtd")
    return pid


def qemus(started: Started) -> list[int]:
    return named(started(), "qemu-system")


async def until_another_libvirtd(started: Started, old: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not (found := named(started(), "libvirtd")) or found == [old]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
async def test_a_libvirtd_that_ends_is_started_again_and_its_vms_live_on(
    hypervisor: Hypervisor, start: StartGuest, started: Started, number: signal.Signals
) -> None:
    vm = await start(Guest(IDLE))
    watching = asyncio.create_task(hypervisor.wait_stopped(vm.uuid))
    before = qemus(started)
    with capture_logs() as logged:
        os.kill(old := libvirtd(started), number)
        await until_another_libvirtd(started, old)
        assert await hypervisor.list_vms() == [vm]
    assert [entry["event"] for entry in logged] == ["libvirtd_restarted"]
    assert qemus(started) == before

    # The new connection tells of what happens from now on.
    assert not watching.done()
    await hypervisor.destroy(vm.uuid)
    async with asyncio.timeout(LIMIT_S):
        assert await watching is StopReason.DESTROYED
    await wait_gone(before, LIMIT_S)


async def test_a_guest_that_ended_while_no_libvirtd_ran_is_found_gone(
    hypervisor: Hypervisor, start: StartGuest, started: Started
) -> None:
    vm = await start(Guest(IDLE))
    watching = asyncio.create_task(hypervisor.wait_stopped(vm.uuid))
    old = libvirtd(started)
    os.kill(old, signal.SIGSTOP)  # so that it cannot see its guest's end before its own
    for pid in (*qemus(started), old):
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(LIMIT_S):
        assert await watching in {StopReason.GONE, StopReason.FAILED}
    assert await hypervisor.list_vms() == []


async def test_what_libvirtd_was_asked_when_it_died_is_asked_again(
    hypervisor: Hypervisor, start: StartGuest, started: Started
) -> None:
    vm = await start(Guest(IDLE))
    os.kill(old := libvirtd(started), signal.SIGSTOP)
    guest = Guest(IDLE)
    starting = asyncio.ensure_future(start(guest))
    destroying = asyncio.create_task(hypervisor.destroy(vm.uuid))
    listing = asyncio.create_task(hypervisor.list_vms())
    await asyncio.sleep(0.2)  # both calls have reached it, or reach the next one: either way the outcome is the same
    os.kill(old, signal.SIGKILL)
    async with asyncio.timeout(LIMIT_S):
        assert (await starting).uuid == guest.uuid
        await destroying
        with pytest.raises(Unavailable):
            await listing
    assert [found.uuid for found in await hypervisor.list_vms()] == [guest.uuid]
    assert len(qemus(started)) == 1


async def test_a_libvirtd_killed_in_the_middle_of_a_start_leaves_one_vm_of_that_start(
    hypervisor: Hypervisor, start: StartGuest, started: Started
) -> None:
    await hypervisor.list_vms()
    guest = Guest(IDLE)
    starting = asyncio.ensure_future(start(guest))
    async with asyncio.timeout(LIMIT_S):
        while not qemus(started):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
    os.kill(libvirtd(started), signal.SIGKILL)
    async with asyncio.timeout(LIMIT_S):
        assert (await starting).uuid == guest.uuid
    assert [found.uuid for found in await hypervisor.list_vms()] == [guest.uuid]
    assert len(qemus(started)) == 1
    await hypervisor.destroy(guest.uuid)
    await wait_gone(qemus(started), LIMIT_S)


async def test_a_libvirtd_that_dies_again_and_again_is_given_up_and_its_vms_with_it(
    daemon: PrivateDaemon, hypervisor: Hypervisor, start: StartGuest, started: Started
) -> None:
    vm = await start(Guest(IDLE))
    watching = asyncio.create_task(hypervisor.wait_stopped(vm.uuid))
    left = qemus(started)
    for _ in range(MAX_RESTARTS):
        os.kill(old := libvirtd(started), signal.SIGKILL)
        await until_another_libvirtd(started, old)
        assert await hypervisor.list_vms() == [vm]
    os.kill(libvirtd(started), signal.SIGKILL)
    async with asyncio.timeout(LIMIT_S):
        assert await daemon.wait_ended() == (
            "libvirtd ended with status -9, and was started again 3 times in the last 600 s"
        )
    await wait_gone(left, LIMIT_S)
    with pytest.raises(Unavailable):
        await watching


async def test_everything_ends_with_the_launcher_after_a_restart_too(
    scratch: Path, account: Account, started: Started
) -> None:
    async with private_daemon(scratch / "l", account, show_kvm=False) as daemon:
        async with Hypervisor(daemon.uri, autodestroy=False) as hypervisor:
            guest = Guest(IDLE)
            await hypervisor.start_vm(guest.on_file(guest.make_disk(scratch, account)))
            os.kill(old := libvirtd(started), signal.SIGKILL)
            await until_another_libvirtd(started, old)
        left = [*qemus(started), libvirtd(started)]
        assert all(map(is_running, left))
    await wait_gone(left, LIMIT_S)


async def test_a_libvirtd_that_hangs_blocks_neither_the_loop_nor_the_end(
    scratch: Path, account: Account, started: Started
) -> None:
    began_at_s = time.monotonic()
    async with private_daemon(scratch / "l", account, show_kvm=False) as daemon:
        hypervisor = Hypervisor(daemon.uri, autodestroy=False)
        await hypervisor.list_vms()
        os.kill(libvirtd(started), signal.SIGSTOP)
        asking = [asyncio.create_task(hypervisor.list_vms()) for _ in range(8)]
        longest_s = 0.0
        for _ in range(100):
            asked_at_s = time.monotonic()
            await asyncio.sleep(0.001)
            longest_s = max(longest_s, time.monotonic() - asked_at_s)
        assert longest_s < 0.5
        assert not any(task.done() for task in asking)
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
    assert time.monotonic() - began_at_s < LIMIT_S


async def test_a_guest_is_asked_to_power_off_by_its_button(hypervisor: Hypervisor, start: StartGuest) -> None:
    vm = await start(Guest(IDLE))
    await hypervisor.press_power_button(vm.uuid)
    assert await hypervisor.list_vms() == [vm]  # nobody listens to the button in there
    await hypervisor.press_power_button(Guest(POWER_OFF).uuid)

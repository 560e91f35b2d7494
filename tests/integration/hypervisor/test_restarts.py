"""libvirtd dies, and its vms do not."""

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from launcher.hypervisor import hypervisor as hypervisor_module
from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import ConnectionLost, NotAsked, Unavailable
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.hypervisor.keeper import MAX_RESTARTS
from launcher.hypervisor.lanes import QUEUE_LIMIT_S, THREADS, Lane
from launcher.hypervisor.private_daemon import PrivateDaemon, private_daemon
from launcher.hypervisor.vm import StopReason, Vm
from tests.integration.hypervisor.conftest import Started, StartGuest
from tests.integration.hypervisor.guests import HEED_BUTTON, IDLE, POWER_OFF, Guest
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
        assert {found.uuid for found in await listing} <= {vm.uuid, guest.uuid}
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


async def test_a_vm_started_twice_is_not_ended_by_the_end_of_the_first(
    hypervisor: Hypervisor, scratch: Path, account: Account, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, replies = hypervisor._create, iter([ConnectionLost("its reply is lost")])

    async def create_and_lose_the_reply(xml: str) -> Vm:
        vm = await create(xml)
        for error in replies:
            raise error
        return vm

    monkeypatch.setattr(hypervisor, "_create", create_and_lose_the_reply)
    guest = Guest(IDLE)
    vm = await hypervisor.start_vm(guest.on_file(guest.make_disk(scratch, account)))
    watching = asyncio.create_task(hypervisor.wait_stopped(vm.uuid))
    await asyncio.sleep(2)  # what was told late would end it
    assert not watching.done()
    (qemu,) = qemus(started)
    os.kill(qemu, signal.SIGKILL)
    async with asyncio.timeout(LIMIT_S):
        assert await watching is StopReason.FAILED


@pytest.mark.timeout(180)
async def test_a_libvirtd_that_hangs_is_started_again_for_who_watches_and_who_destroys(
    daemon: PrivateDaemon, started: Started, scratch: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypervisor_module, "DESTROY_LIMIT_S", 3.0)
    async with Hypervisor(
        daemon.uri, restart=daemon.restart, poll_s=0.2, silence_limit_s=3.0, autodestroy=False
    ) as hypervisor:
        guests = [Guest(IDLE) for _ in range(4)]
        for guest in guests:
            await hypervisor.start_vm(guest.on_file(guest.make_disk(scratch, account)))
        watching = [asyncio.create_task(hypervisor.wait_stopped(guest.uuid)) for guest in guests]
        before = sorted(qemus(started))
        os.kill(hung := libvirtd(started), signal.SIGSTOP)
        await until_another_libvirtd(started, hung)
        assert {vm.uuid for vm in await hypervisor.list_vms()} == {guest.uuid for guest in guests}
        assert sorted(qemus(started)) == before
        assert not any(task.done() for task in watching)

        with capture_logs() as logged:
            os.kill(libvirtd(started), signal.SIGSTOP)
            async with asyncio.timeout(LIMIT_S):
                await asyncio.gather(*(hypervisor.destroy(guest.uuid) for guest in guests))
                assert {await task for task in watching} == {StopReason.DESTROYED}
        assert [entry["event"] for entry in logged] == ["libvirtd_silent", "libvirtd_restarted"]
        await wait_gone(before, LIMIT_S)


async def test_a_vm_that_could_not_be_destroyed_is_there_to_be_destroyed_again(
    hypervisor: Hypervisor, start: StartGuest, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypervisor_module, "DESTROY_LIMIT_S", 0.5)
    monkeypatch.setattr(hypervisor._restarts, "_restart", None)  # a site's: nobody starts it again
    vm = await start(Guest(IDLE))
    left = qemus(started)
    os.kill(hung := libvirtd(started), signal.SIGSTOP)
    with pytest.raises(Unavailable):
        await hypervisor.destroy(vm.uuid)
    os.kill(hung, signal.SIGCONT)
    async with asyncio.timeout(LIMIT_S):
        await hypervisor.destroy(vm.uuid)
    await wait_gone(left, LIMIT_S)


async def test_looks_and_destroys_wait_for_no_start(
    hypervisor: Hypervisor, start: StartGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = await start(Guest(IDLE))
    watching = asyncio.create_task(hypervisor.wait_stopped(vm.uuid))
    is_over = threading.Event()
    slow = [
        asyncio.create_task(hypervisor._connection.call(lambda _: is_over.wait(LIMIT_S), lane=Lane.CHANGE))
        for _ in range(20)
    ]
    await asyncio.sleep(6)  # longer than silence may last here
    assert not watching.done()
    await hypervisor.destroy(vm.uuid)
    async with asyncio.timeout(LIMIT_S):
        assert await watching is StopReason.DESTROYED
        is_over.set()
        await asyncio.gather(*slow)


async def test_what_waits_for_others_is_neither_unanswered_nor_made_when_it_is_given_up(
    hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(QUEUE_LIMIT_S, Lane.DESTROY, 1.0)
    is_over = threading.Event()
    calls: list[object] = []
    slow = [
        asyncio.create_task(hypervisor._connection.call(lambda _: is_over.wait(LIMIT_S), lane=Lane.DESTROY))
        for _ in range(THREADS[Lane.DESTROY])
    ]
    await asyncio.sleep(0)
    with pytest.raises(NotAsked):
        await hypervisor._connection.call(calls.append, lane=Lane.DESTROY, limit_s=0.1)
    is_over.set()
    await asyncio.gather(*slow)
    assert await hypervisor._connection.call(lambda _: "made", lane=Lane.DESTROY, limit_s=0.1) == "made"
    assert calls == []


async def test_a_libvirtd_that_is_told_to_end_while_it_comes_up_is_started_again(
    hypervisor: Hypervisor, start: StartGuest, started: Started
) -> None:
    vm = await start(Guest(IDLE))
    before = qemus(started)
    os.kill(old := libvirtd(started), signal.SIGKILL)
    await until_another_libvirtd(started, old)
    os.kill(young := libvirtd(started), signal.SIGKILL)
    await until_another_libvirtd(started, young)
    assert await hypervisor.list_vms() == [vm]
    assert qemus(started) == before


async def test_a_termination_signal_to_every_process_is_not_told_as_the_guests_doing(
    hypervisor: Hypervisor, start: StartGuest, started: Started
) -> None:
    vm = await start(Guest(IDLE))
    watching = asyncio.create_task(hypervisor.wait_stopped(vm.uuid))
    old, left = libvirtd(started), qemus(started)
    for pid in started():
        os.kill(pid, signal.SIGTERM)
    async with asyncio.timeout(LIMIT_S):
        assert await watching in {StopReason.DESTROYED, StopReason.FAILED, StopReason.GONE}
    await wait_gone(left, LIMIT_S)
    await until_another_libvirtd(started, old)
    assert await hypervisor.list_vms() == []
    assert await hypervisor.wait_stopped((await start(Guest(POWER_OFF))).uuid) is StopReason.GUEST_SHUTDOWN


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


async def test_a_guest_that_heeds_its_button_has_shut_down_by_itself(hypervisor: Hypervisor, start: StartGuest) -> None:
    vm = await start(Guest(HEED_BUTTON))
    watching = asyncio.create_task(hypervisor.wait_stopped(vm.uuid))
    async with asyncio.timeout(LIMIT_S):
        while not watching.done():  # pressed before the firmware has booted it, the button is not seen
            await hypervisor.press_power_button(vm.uuid)
            await asyncio.wait([watching], timeout=0.5)
    assert await watching is StopReason.GUEST_SHUTDOWN


async def test_a_qemu_ended_by_the_nodes_signal_is_not_told_as_the_guests_doing(
    hypervisor: Hypervisor, start: StartGuest, started: Started
) -> None:
    vm = await start(Guest(IDLE))
    (qemu,) = qemus(started)
    os.kill(qemu, signal.SIGTERM)
    async with asyncio.timeout(LIMIT_S):
        assert await hypervisor.wait_stopped(vm.uuid) is StopReason.DESTROYED

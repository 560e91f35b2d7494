"""A libvirt that is not the launcher's: used, looked through, and cleared of what dead launchers left."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from launcher.domain_xml import METADATA_NAMESPACE
from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.hypervisor.in_use import LibvirtInUse, site_libvirt
from launcher.hypervisor.isolation import isolation
from launcher.node.scratch import LOCK_FILE, mark_of, scratch_folder
from launcher.node.site_libvirt import check_files, destroy_leftovers
from tests.integration.hypervisor.guests import IDLE, Guest
from tests.support import site_libvirt as support
from tests.support.launching import short_folder
from tests.support.site_libvirt import SiteLibvirt

pytestmark = pytest.mark.vm

LIMIT_S = 60
IS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def site() -> Iterator[SiteLibvirt]:
    with short_folder("vmb-site-") as folder, support.site_libvirt(folder / "s") as site:
        yield site


@pytest.fixture
async def in_use(site: SiteLibvirt) -> AsyncIterator[LibvirtInUse]:
    async with site_libvirt(site.uri, None) as in_use:
        yield in_use


async def test_who_qemu_runs_as_is_seen_at_a_vm(in_use: LibvirtInUse) -> None:
    assert in_use.account.uid == Account.choose(support.ACCOUNT).uid
    assert not in_use.is_private
    assert await in_use.hypervisor.list_vms() == []


async def test_what_isolates_is_told_of_the_sites_libvirt_and_of_ones_own(
    site: SiteLibvirt, scratch: Path, account: Account
) -> None:
    sites = {fact.name: fact.holds for fact in await isolation(account, scratch, libvirt_uri=site.uri)}
    own = {fact.name: fact.holds for fact in await isolation(account, scratch)}
    assert set(own.values()) == {True}
    assert sites["network_empty"] is False
    assert sites["qemu_unprivileged"] is True
    assert sites["qemu_in_job"] is False
    assert set(sites) == set(own)


async def test_consoles_ports_and_shares_in_the_scratch_folder_are_tried(in_use: LibvirtInUse, scratch: Path) -> None:
    with scratch_folder(scratch) as folder:
        before = set(folder.iterdir())
        assert await check_files(in_use, folder) is None
        assert set(folder.iterdir()) == before
    assert await in_use.hypervisor.list_vms() == []


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user's QEMU reaches whatever the launcher does")
async def test_a_scratch_folder_that_qemu_cannot_reach_is_refused(in_use: LibvirtInUse, scratch: Path) -> None:
    closed = scratch / "closed"
    closed.mkdir(mode=0o700)
    with scratch_folder(closed) as folder, pytest.raises(HypervisorError, match="may pass through"):
        await check_files(in_use, folder)


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user names no account")
async def test_an_account_that_is_not_qemus_is_refused(site: SiteLibvirt) -> None:
    with pytest.raises(HypervisorError, match="and not as nobody: correct `account`"):
        async with site_libvirt(site.uri, "nobody"):
            raise AssertionError("QEMU does not run as nobody")


def marked(launcher: str) -> Guest:
    vm = f"<vmbroker:vm xmlns:vmbroker='{METADATA_NAMESPACE}' dispatch='d' item='alice/s/1' launcher='{launcher}'/>"
    return Guest(IDLE, metadata=f"<metadata>{vm}</metadata>")


async def start_and_let_go(site: SiteLibvirt, scratch: Path, account: Account, guests: list[Guest]) -> None:
    """Start the guests so that their libvirt owes nobody their end, as after a restart of it."""
    async with Hypervisor(site.uri, autodestroy=False) as hypervisor:
        for guest in guests:
            await hypervisor.start_vm(guest.on_file(guest.make_disk(scratch, account)))


async def test_vms_of_launchers_that_are_gone_are_destroyed_and_no_others(site: SiteLibvirt, scratch: Path) -> None:
    account = Account.choose(support.ACCOUNT)
    with scratch_folder(scratch) as alive:
        dead, left = scratch / "vmb-node-dead", scratch / "vmb-node-left"
        left.mkdir()
        (left / LOCK_FILE).touch()
        living, elsewhere = marked(mark_of(alive)), marked(f"1:2:{dead}")
        removed, unheld, strangers = marked(mark_of(dead)), marked(mark_of(left)), Guest(IDLE)
        await start_and_let_go(site, scratch, account, [living, elsewhere, removed, unheld, strangers])

        async with site_libvirt(site.uri, None) as in_use:
            destroyed = await destroy_leftovers(in_use)
            still_there = {vm.uuid for vm in await in_use.hypervisor.list_vms()}

            for vm in await in_use.hypervisor.list_vms():
                await in_use.hypervisor.destroy(vm.uuid)

    assert set(destroyed) == {removed.uuid, unheld.uuid}
    assert still_there == {living.uuid, elsewhere.uuid, strangers.uuid}
    shutil.rmtree(left)


async def test_a_dead_launchers_vm_goes_at_once_unless_the_sites_libvirtd_was_started_anew(
    site: SiteLibvirt, scratch: Path
) -> None:
    account = Account.choose(support.ACCOUNT)
    guest = Guest(IDLE)
    hypervisor = Hypervisor(site.uri, poll_s=0.5)
    vm = await hypervisor.start_vm(guest.on_file(guest.make_disk(scratch, account)))
    watching = asyncio.create_task(hypervisor.wait_stopped(vm.uuid))
    (qemu,) = site.qemus()

    site.kill()
    site.start()
    async with asyncio.timeout(LIMIT_S):
        assert await hypervisor.list_vms() == [vm]
    assert not watching.done()
    assert site.qemus() == [qemu]

    watching.cancel()
    await asyncio.wait([watching])
    await hypervisor.close()
    async with Hypervisor(site.uri) as other:
        assert await other.list_vms() == [vm]  # nobody owes it its end any more: see destroy_leftovers
        await other.destroy(vm.uuid)
        async with Hypervisor(site.uri) as third:
            await third.start_vm((again := Guest(IDLE)).on_file(again.make_disk(scratch, account)))
        async with asyncio.timeout(LIMIT_S):
            while await other.list_vms():  # noqa: ASYNC110 - libvirt has to be asked
                await asyncio.sleep(0.02)

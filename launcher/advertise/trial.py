"""Trying all that a launcher cannot do without, as it would at its start, short of a broker."""

from pathlib import Path

from broker.wire.states import Exchange
from launcher.advertise.answer import CannotRun
from launcher.guest_disk import CannotBuildGuestDisk, ensure_guest_disk
from launcher.hypervisor.account import Account
from launcher.hypervisor.in_use import site_libvirt
from launcher.hypervisor.isolation import isolation
from launcher.node.abilities import Abilities, why_wanting
from launcher.node.checks import check_images_usable
from launcher.node.site_libvirt import check_files
from launcher.settings import Settings


async def try_node(
    settings: Settings, account: Account, emulator: str, private: Path, scratch: Path
) -> tuple[Exchange, ...]:
    """Start a vm of no use, and return which exchanges work; the one by libguestfs takes too long to be tried here.

    Args:
        settings: A launcher's.
        account: Who QEMU runs as.
        emulator: The path of QEMU.
        private: The folder in the cache of this account alone, where the guest disk is made if need be.
        scratch: A launcher's scratch folder.

    Raises:
        CannotRun, HypervisorError, CacheFailed: no vm can run here; the text says why.
    """
    if settings.libvirt_uri is None:
        await isolation(account, scratch)
        why_no_share = None
    else:
        async with site_libvirt(settings.libvirt_uri, settings.account) as site:
            account, why_no_share = site.account, await check_files(site, scratch)
    try:
        disk = await ensure_guest_disk(private)
    except CannotBuildGuestDisk as error:
        raise CannotRun(str(error)) from error
    await check_images_usable(account, disk.path)
    wanting = await why_wanting(account, emulator, private, scratch, has_time=False)
    offered = Abilities(
        has_virtiofs=wanting["virtiofs"] is None and why_no_share is None,
        has_9p=wanting["9p"] is None,
        has_disks=wanting["disk"] is None,
        has_network=settings.libvirt_uri is None or settings.network == "open",
    ).exchanges
    if not offered:
        raise CannotRun("; ".join(("no exchange works here", *(f"{name}: {why}" for name, why in wanting.items()))))
    return offered

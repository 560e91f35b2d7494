"""What a vm needs here: libvirt, its isolation, the exchanges, firmware, the guest disk."""

from collections.abc import Iterable
from typing import Final

from launcher.doctor.findings import Finding, fail, ok, warn
from launcher.doctor.node import Node
from launcher.doctor.packages import Part, how_to_install
from launcher.guest_disk import CannotBuildGuestDisk, ensure_guest_disk, ensure_seed_disk
from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.firmware import read_firmwares
from launcher.hypervisor.isolation import isolation
from launcher.node.abilities import why_wanting

ISOLATION_LIMIT_S: Final = 120.0
EXCHANGES_LIMIT_S: Final = 400.0
_MENDS: Final = {
    "virtiofs": Part.VIRTIOFSD,
    "disk": Part.E2FSPROGS,
    "rootdisk": Part.LIBGUESTFS,
}


async def libvirt(node: Node) -> Iterable[Finding]:
    """A libvirt starts a vm, and what is seen at its QEMU keeps it apart from the node."""
    account, uri = node.account, node.settings.libvirt_uri
    with node.scratch() as folder:
        try:
            facts = await isolation(account, folder, libvirt_uri=uri)
        except HypervisorError as error:
            mend = "see `namespaces` and `programs`" if uri is None else "deploy/node/polkit lets an account use it"
            return [fail(f"{_whose(uri)} starts no vm: {error}", mend)]
    return [
        ok(f"{_whose(uri)} started a vm, and destroyed it"),
        *(ok(fact.sentence) if fact.holds else warn(fact.sentence) for fact in facts),
    ]


async def exchanges(node: Node) -> Iterable[Finding]:
    """Each way of files into and out of a vm is tried."""
    with node.scratch() as folder:
        wanting = await why_wanting(node.account, node.emulator, node.cache, folder)
    works = [name for name, reason in wanting.items() if reason is None]
    return [
        ok(f"these work here: {', '.join(['network', *works])}"),
        *(
            warn(f"{name}: {reason}", _mend(node, name, reason))
            for name, reason in wanting.items()
            if reason is not None
        ),
    ]


async def firmware(node: Node) -> Iterable[Finding]:
    """Machines with UEFI need its firmware."""
    found = read_firmwares()
    if found:
        return [ok(f"UEFI: {', '.join(each.loader for each in found)}")]
    return [
        warn("no firmware for machines with UEFI: they do not run here", how_to_install(node.family, Part.FIRMWARE))
    ]


async def guest_disk(node: Node) -> Iterable[Finding]:
    """The disk that brings our client into a vm is there, or can be made."""
    try:
        disk = await ensure_guest_disk(node.cache)
        await ensure_seed_disk(node.cache)
    except CannotBuildGuestDisk as error:
        return [fail(str(error), how_to_install(node.family, Part.E2FSPROGS))]
    return [ok(f"{disk.path.name}, with the client {disk.client_version}")]


def _whose(uri: str | None) -> str:
    return "a libvirtd of the launcher's own" if uri is None else f"the libvirt {uri}"


def _mend(node: Node, name: str, reason: str) -> str:
    part = _MENDS.get(name)
    return how_to_install(node.family, part) if part is not None and "not installed" in reason else ""

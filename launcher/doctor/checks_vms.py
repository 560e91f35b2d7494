"""What a vm needs here: libvirt, its isolation, the exchanges, firmware, the guest disk."""

from collections.abc import Iterable
from typing import Final

from launcher.doctor.findings import Finding, fail, ok, skip, warn
from launcher.doctor.node import Node
from launcher.guest_disk import CannotBuildGuestDisk, ensure_guest_disk
from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.firmware import read_firmwares
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.hypervisor.in_use import site_libvirt
from launcher.hypervisor.isolation import IsolationFact, isolation
from launcher.node.abilities import Abilities, why_wanting
from launcher.node.site_libvirt import check_files
from launcher.node_files import node_files
from launcher.packages import Part, how_to_install

ISOLATION_LIMIT_S: Final = 120.0
_REFUSALS: Final = ("permission denied", "authentic", "authoriz", "polkit", "access denied")
EXCHANGES_LIMIT_S: Final = 400.0
_MENDS: Final = {
    "virtiofs": Part.VIRTIOFSD,
    "disk": Part.E2FSPROGS,
    "rootdisk": Part.LIBGUESTFS,
}
_OTHERWISE: Final = {
    "virtiofs": "nothing needs it where 9p works; QEMU's own virtiofsd, Debian 12's, serves launchers of root alone",
    "9p": "nothing needs it where virtiofs works; else name a scratch folder of a file system with user attributes",
    "disk": "mend what is said there; until then this node runs no streams with exchange: disk",
    "rootdisk": "mend what is said there, or leave it: streams with exchange: rootdisk then run on other nodes",
}


async def libvirt(node: Node) -> Iterable[Finding]:
    """A libvirt starts a vm, and what is seen at its QEMU keeps it apart from the node."""
    uri = node.settings.libvirt_uri
    return await (_own_libvirt(node) if uri is None else _sites_libvirt(node, uri))


async def _own_libvirt(node: Node) -> list[Finding]:
    account = node.account
    with node.scratch() as folder:
        try:
            facts = await isolation(account, folder)
        except HypervisorError as error:
            return [fail(f"a libvirtd of the launcher's own starts no vm: {error}", "see `namespaces` and `programs`")]
    return [ok("a libvirtd of the launcher's own started a vm, and destroyed it"), *_told(facts)]


async def _sites_libvirt(node: Node, uri: str) -> list[Finding]:
    """Do with it all that a launcher does before it offers anything; what it refuses says itself what to mend."""
    try:
        async with Hypervisor(uri) as hypervisor:
            await hypervisor.list_vms()
    except HypervisorError as error:
        return [fail(f"the libvirt {uri} does not answer: {error}", _open_mend(str(error)))]
    with node.scratch() as folder:
        try:
            async with site_libvirt(uri, node.settings.account) as site:
                why_no_share = await check_files(site, folder)
        except HypervisorError as error:
            return [fail(f"no launcher runs at the libvirt {uri}: {error}")]
    node.has_virtiofs = why_no_share is None
    works = ok(f"the libvirt {uri} started vms with their files in the scratch folder, and destroyed them")
    return [works, *_told(site.facts), *([warn(why_no_share, _OTHERWISE["virtiofs"])] if why_no_share else [])]


def _told(facts: Iterable[IsolationFact]) -> list[Finding]:
    return [ok(fact.sentence) if fact.holds else warn(fact.sentence) for fact in facts]


async def exchanges(node: Node) -> Iterable[Finding]:
    """Each way of files into and out of a vm is tried."""
    with node.scratch() as folder:
        wanting = await why_wanting(node.account, node.emulator, node.own_cache, folder)
    return [
        _offered(node, wanting),
        *(
            warn(f"{name}: {reason}", _mend(node, name, reason))
            for name, reason in wanting.items()
            if reason is not None
        ),
    ]


def _offered(node: Node, wanting: dict[str, str | None]) -> Finding:
    """Say what a launcher would offer."""
    if "libvirt" in node.failed:
        return skip("what a launcher would offer depends on libvirt, see `libvirt`")
    settings = node.settings
    has_network = settings.libvirt_uri is None or settings.network == "open"
    works = {name: reason is None for name, reason in wanting.items()}
    works["virtiofs"] &= node.has_virtiofs
    offered = Abilities(
        has_virtiofs=works["virtiofs"],
        has_9p=works["9p"],
        has_disks=works["disk"],
        has_rootdisk=works["rootdisk"],
        has_network=has_network,
    ).exchanges
    if not offered:
        return fail("no exchange works here", 'mend one of these, or set network = "open"')
    how = [name for name in ("virtiofs", "9p") if works[name]]
    return ok(f"a launcher offers {', '.join(offered)}{f' (shared by {how[0]})' if how else ''}")


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
        disk = await ensure_guest_disk(node.own_cache)
    except CannotBuildGuestDisk as error:
        return [fail(str(error), how_to_install(node.family, Part.E2FSPROGS))]
    return [ok(f"{disk.path.name}, with the client {disk.client_version}")]


def _mend(node: Node, name: str, reason: str) -> str:
    part = _MENDS.get(name)
    if part is not None and "not installed" in reason:
        return how_to_install(node.family, part)
    return _OTHERWISE[name]


def _open_mend(reason: str) -> str:
    if any(word in reason.lower() for word in _REFUSALS):
        return f"let this account use it, as {node_files()}/polkit does"
    return "start that libvirtd, or name a libvirt that runs on this node: --libvirt-uri"

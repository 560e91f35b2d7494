"""Where a machine comes from: virsh's domain, a file, or stdin; and which files on this desktop are its disks."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from broker.cli.disks_given import Remote
from broker.cli.exits import BadUsage
from broker.desktop.definition import Definition, Volume, read_definition
from broker.desktop.failure import DesktopFailure
from broker.desktop.live import Running, check_left_over
from broker.desktop.virsh import Virsh, find_domain

_IMAGE_SUFFIXES = frozenset({".qcow2", ".img", ".raw", ".qcow", ".vmdk", ".vdi", ".vhdx", ".qed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A machine's XML and what it names. `virsh` knows it, or is None where the XML came from a file."""

    xml: str
    definition: Definition
    virsh: Virsh | None = None
    running: Running | None = None


async def from_domain(domain: str, uri: str | None, *, is_live: bool) -> Source:
    """Ask virsh for a machine.

    Raises:
        DesktopFailure: it is not there, or it is running and `is_live` was not asked for.
        XmlRefused: its XML cannot be read.
    """
    virsh, xml = await find_domain(domain, uri)
    definition = await _located(virsh, read_definition(xml.encode()))
    state = await virsh.state(domain)
    if state == "saved":
        raise DesktopFailure(
            f"{domain} is saved, not shut down, so its disks are not whole: start it (`virsh -c {virsh.uri} start "
            f"{domain}`, or `virsh restore` and the file it was saved to) and shut it down from inside"
        )
    if state == "off":
        check_left_over(domain, definition, virsh.uri)
        return Source(xml=xml, definition=definition, virsh=virsh)
    if not is_live:
        raise DesktopFailure(
            f"{domain} is running, and its disks change: shut it down (`virsh -c {virsh.uri} shutdown {domain}`), "
            f"or add --live to copy them as they are at one moment"
        )
    now = await _located(virsh, read_definition((await virsh.running_definition(domain)).encode()))
    check_left_over(domain, now, virsh.uri)
    kept = xml if await virsh.is_persistent(domain) else None
    running = Running(virsh=virsh, domain=domain, definition=kept, disks=now.disks)
    return Source(xml=xml, definition=now, virsh=virsh, running=running)


def from_file(file: str) -> Source:
    """Read an exported XML; `-` is stdin.

    Raises:
        BadUsage: it is no text.
        XmlRefused: it cannot be read as XML.
    """
    try:
        # As bytes: in the C locale, text from stdin would hide what is no UTF-8.
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        xml = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadUsage(f"{file} is no UTF-8 text: export it with `virsh dumpxml`") from error
    return Source(xml=xml, definition=read_definition(content))


async def _located(virsh: Virsh, definition: Definition) -> Definition:
    """Replace each volume of a storage pool by its path."""
    disks = [
        replace(disk, source=await virsh.volume_path(disk.source)) if isinstance(disk.source, Volume) else disk
        for disk in definition.disks
    ]
    return replace(definition, disks=tuple(disks))


def find_disks(source: Source, given: dict[str, Path | Remote]) -> dict[str, Path | Remote]:
    """Return where each disk is: what was given, else what the XML names on this desktop.

    From an XML in a file, which may be somebody else's, only files with the name of an image are taken: it must not
    choose what is uploaded. What lies in a removable drive is never taken.
    """
    found = dict(given)
    for disk in source.definition.disks:
        if disk.device == "disk" and disk.target not in given and isinstance(disk.source, Path):
            is_named_image = not disk.is_block and disk.source.suffix in _IMAGE_SUFFIXES
            if source.virsh is not None or is_named_image:
                found[disk.target] = disk.source
    return found

"""A machine's disks against the images given for them: every disk is one image, named by its target."""

import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from lxml import etree

from launcher.domain_xml.findings import Refusal
from launcher.domain_xml.judge import Decision
from launcher.domain_xml.parsing import parse
from launcher.domain_xml.rules import Rule, Treatment, matches
from launcher.domain_xml.table_devices import BOOT_ORDERS, BUSES, TARGETS

# CD-ROM and floppy drives are removable: a machine is whole without what once lay in them.
_REMOVABLE = {"cdrom", "floppy"}
# A second <devices> is dropped, so its disks are none.
_DISKS = "devices[1]/disk"
_BUS_OF_PREFIX = {"fd": "fdc", "hd": "ide", "sd": "scsi", "vd": "virtio", "xv": "xen", "ub": "uml"}

NO_MEDIUM = Rule(path="devices/disk", treatment=Treatment.DROP, why="no image was given for this removable drive")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFact:
    """One disk of the XML.

    `source` is where its bytes were on the host that the XML comes from: a help for its owner's own tool there, and
    never to be opened anywhere else.
    """

    target: str
    bus: str
    device: str
    format: str | None
    source: str | None


def read_disks(root: etree._Element) -> tuple[DiskFact, ...]:
    """Return the XML's disks, in its order."""
    return tuple(map(read_disk, root.findall(_DISKS)))


def first_to_boot(xml: bytes, disks_given: Collection[str]) -> str | None:
    """Return the target of the hard disk that a machine boots from first, None where it has none but removable ones.

    Raises:
        XmlRefused: the XML cannot be read.
    """
    found = [(_boot_order(element), read_disk(element)) for element in parse(xml).findall(_DISKS)]
    hard = [(order, disk) for order, disk in found if disk.device not in _REMOVABLE and disk.target in disks_given]
    # Those without an order come behind, as they stand in the XML.
    return min(hard, key=lambda candidate: candidate[0])[1].target if hard else None


def unmatched(root: etree._Element, disks_given: Collection[str]) -> Iterator[Refusal]:
    """Yield every disk without a usable target or an image, and every image without a disk."""
    disks = read_disks(root)
    times = Counter(disk.target for disk in disks)
    for number, disk in enumerate(disks, start=1):
        path = f"/domain/devices/disk[{number}]"
        if not matches(TARGETS, disk.target):
            yield Refusal(f"{path}/target", f"{disk.target!r} is no disk target", "name it as in <target dev='vda'/>")
        elif not matches(BUSES, disk.bus):
            yield Refusal(f"{path}/target", f"disk {disk.target}: no node has the bus {disk.bus!r}", "use bus 'virtio'")
        elif times[disk.target] > 1:
            yield Refusal(f"{path}/target", f"{disk.target} is the target of several disks", "give each its own")
        elif disk.target not in disks_given and disk.device not in _REMOVABLE:
            reason = f"disk {disk.target}: no image was given for it"
            yield Refusal(path, reason, f"add --disk {disk.target}=FILE, or remove the disk")
    if all(disk.device in _REMOVABLE and disk.target not in disks_given for disk in disks):
        yield Refusal("/domain/devices", "the machine has no disk to boot from", "add the disk it was installed on")
    yield from _without_disk(set(times), disks_given)


def empty_drives(root: etree._Element, disks_given: Collection[str]) -> Iterator[Decision]:
    """Yield the removable drives that nobody gave an image for: they are dropped."""
    for number, element in enumerate(root.findall(_DISKS), start=1):
        disk = read_disk(element)
        if disk.device in _REMOVABLE and disk.target not in disks_given:
            yield Decision(f"/domain/devices/disk[{number}]", NO_MEDIUM, element)


def _boot_order(disk: etree._Element) -> float:
    boot = disk.find("boot")
    order = "" if boot is None else boot.get("order", "")
    return int(order) if matches(BOOT_ORDERS, order) else math.inf


def _without_disk(targets: Collection[str], disks_given: Collection[str]) -> Iterator[Refusal]:
    named = ", ".join(sorted(filter(None, targets))) or "none"
    for target in sorted(set(disks_given) - set(targets)):
        reason = f"an image was given for {target}, which is no disk of this machine"
        yield Refusal("/domain/devices", reason, f"give images for its disks: {named}")


def read_disk(element: etree._Element) -> DiskFact:
    """Return what the XML says of one disk; the bus as libvirt takes it from the target where the XML names none."""
    target, driver, source = element.find("target"), element.find("driver"), element.find("source")
    dev, bus = ("", None) if target is None else (target.get("dev", ""), target.get("bus"))
    return DiskFact(
        target=dev,
        bus=bus or _BUS_OF_PREFIX.get(dev[:2], ""),
        device=element.get("device", "disk"),
        format=None if driver is None else driver.get("type"),
        source=None if source is None else source.get("file") or source.get("dev"),
    )

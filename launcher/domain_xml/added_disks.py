"""The disks that a vm gets beside its own: the client's, the seed, and those that carry files in and out.

All stand behind the machine's own, so that none of those is named anew or booted after one of these. The client's disk
is on virtio-blk, as the port beside it is virtio. A disk that carries files may go to a guest that has no client and
perhaps no virtio driver, so it goes where the guest's own first disk is, if there is room.
"""

from dataclasses import dataclass
from string import ascii_lowercase

from lxml import etree

from launcher.domain_xml.build import Build
from launcher.domain_xml.disks import UNFLUSHED, WRITABLE
from launcher.domain_xml.images import read_disk
from launcher.domain_xml.tree import add, only

GUEST_DISK_SERIAL = "VMBROKER"

_RAW = {"name": "qemu", "type": "raw"}
_PREFIXES = {"ide": "hd", "sata": "sd", "scsi": "sd", "virtio": "vd"}
# Disks of one controller. lsilogic has room for seven and takes only target 0, as virtio-scsi does as well.
_ROOM = {"ide": 4, "sata": 6, "scsi": 7}
_SCSI_WITH_UNITS = {None, "auto", "virtio-scsi", "virtio-transitional", "virtio-non-transitional", "lsilogic"}
# QEMU refuses a read-only hard disk there.
_WRITABLE_ONLY = {"ide", "sata"}
_UNITS_OF_IDE_BUS = 2


def add_guest_disk(root: etree._Element, build: Build) -> None:
    """Add the disk with the guest's client, if one is brought."""
    if build.vm.guest_disk is not None:
        disk = _add(root, build.vm.guest_disk, _RAW, _Place("virtio"))
        add(disk, "serial").text = GUEST_DISK_SERIAL
        add(disk, "readonly")


def add_seed_disk(root: etree._Element, build: Build) -> None:
    """Add the disk by which cloud-init finds the client, never on a bus that knows no read-only."""
    if build.vm.seed_disk is not None:
        place = _place(root)
        disk = _add(root, build.vm.seed_disk, _RAW, _Place("virtio") if place.bus in _WRITABLE_ONLY else place)
        add(disk, "readonly")


def add_data_disks(root: etree._Element, build: Build) -> None:
    """Add the disks that carry files, in their order."""
    for data_disk in build.vm.data_disks:
        place = _place(root)
        # The file is this vm's own and dies with it: nothing is lost where the bus cannot keep the guest from writing.
        is_writable = data_disk.is_writable or place.bus in _WRITABLE_ONLY
        disk = _add(root, data_disk.path, _RAW | UNFLUSHED | (WRITABLE if is_writable else {}), place)
        add(disk, "serial").text = data_disk.serial
        if not is_writable:
            add(disk, "readonly")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a disk is attached; without `unit` libvirt finds the place."""

    bus: str
    controller: int = 0
    unit: int | None = None

    def address(self) -> dict[str, str]:
        assert self.unit is not None
        bus, unit = divmod(self.unit, _UNITS_OF_IDE_BUS) if self.bus == "ide" else (0, self.unit)
        return {
            "type": "drive",
            "controller": str(self.controller),
            "bus": str(bus),
            "target": "0",
            "unit": str(unit),
        }


def _add(root: etree._Element, file: str, driver: dict[str, str], place: _Place) -> etree._Element:
    disk = add(only(root, "devices"), "disk", {"type": "file", "device": "disk"})
    add(disk, "driver", driver)
    add(disk, "source", {"file": file})
    add(disk, "target", {"dev": _next_target(root, _PREFIXES[place.bus]), "bus": place.bus})
    if place.unit is not None:
        add(disk, "address", place.address())
    return disk


def _place(root: etree._Element) -> _Place:
    """Return the next place behind the disks on the first one's controller, or on virtio-blk."""
    disks = root.findall("devices/disk")
    first = next((disk for disk in disks if disk.get("device") == "disk"), None)
    virtio = _Place("virtio")
    if first is None:
        return virtio
    bus, (controller, _) = _bus(first), _seat(first)
    if bus not in _ROOM or (bus == "scsi" and not _counts_units(root, disks, controller)):
        return virtio
    seats = [(disk.get("device"), *_seat(disk)) for disk in disks if _bus(disk) == bus]
    used = {unit for _, on, unit in seats if on == controller}
    last = max(unit for device, on, unit in seats if on == controller and device == "disk")
    free = [unit for unit in range(last + 1, _ROOM[bus]) if unit not in used]
    return _Place(bus, controller, free[0]) if free else virtio


def _bus(disk: etree._Element) -> str:
    return read_disk(disk).bus


def _seat(disk: etree._Element) -> tuple[int, int]:
    """Return controller and unit: as the address says, else as libvirt counts them from the target's name."""
    bus, address = _bus(disk), disk.find("address[@type='drive']")
    if address is None:
        return divmod(_index(read_disk(disk).target), _ROOM.get(bus, 1))
    unit = int(address.get("unit", "0"))
    if bus == "ide":
        unit += int(address.get("bus", "0")) * _UNITS_OF_IDE_BUS
    return int(address.get("controller", "0")), unit


def _counts_units(root: etree._Element, disks: list[etree._Element], controller: int) -> bool:
    """Say whether the SCSI controller tells its disks apart by unit, and all of them stand on target 0."""
    models = {
        element.get("model")
        for element in root.findall("devices/controller[@type='scsi']")
        if int(element.get("index", "0")) == controller
    }
    elsewhere = [disk for disk in disks for address in disk.findall("address") if _is_off_target(address)]
    return models <= _SCSI_WITH_UNITS and not elsewhere


def _is_off_target(address: etree._Element) -> bool:
    return address.get("type") == "drive" and int(address.get("target", "0")) != 0


def _next_target(root: etree._Element, prefix: str) -> str:
    """Return the target that follows the last one used."""
    targets = (target.get("dev", "") for target in root.iterfind("devices/disk/target"))
    index = max((_index(target) for target in targets if target.startswith(prefix)), default=-1) + 1
    tens, ones = divmod(index, len(ascii_lowercase))
    return prefix + (ascii_lowercase[tens - 1] if tens else "") + ascii_lowercase[ones]


def _index(target: str) -> int:
    """Return the place of `target` among its like: 0 for `vda`, 26 for `vdaa`."""
    index = 0
    for letter in target[2:]:
        index = index * len(ascii_lowercase) + ascii_lowercase.index(letter) + 1
    return index - 1

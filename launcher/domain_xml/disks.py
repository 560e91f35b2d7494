"""Disks: each one an overlay over its image, on the bus and under the target that the guest knows."""

from collections.abc import Iterable
from string import ascii_lowercase

from lxml import etree

from launcher.domain_xml.build import Build
from launcher.domain_xml.tree import add, only, put_one

GUEST_DISK_SERIAL = "VMBROKER"

# An overlay dies with its vm, so nothing is gained by making the host flush it: what a crash of the node loses is lost
# with the vm, whose item is given again.
_OVERLAY = {"name": "qemu", "type": "qcow2", "cache": "unsafe"}
# A host that cannot read or write stops the vm, which the launcher sees and names; handed on to the guest it would pass
# for a fault of the item. Freed blocks go back to the node.
_WRITABLE = {"error_policy": "stop", "rerror_policy": "stop", "discard": "unmap"}


def set_disks(root: etree._Element, build: Build) -> None:
    """Put every disk on its overlay."""
    for disk in root.findall("devices/disk"):
        target = disk.find("target")
        assert target is not None, "a disk without a target was refused"
        device = disk.get("device") or "disk"
        disk.set("type", "file")
        disk.set("device", device)
        put_one(disk, "driver", _OVERLAY | _WRITABLE if device == "disk" else _OVERLAY)
        put_one(disk, "source", {"file": build.vm.overlays[target.get("dev", "")]})


def add_guest_disk(root: etree._Element, build: Build) -> None:
    """Add the disk with the guest's client, behind all others so that none is booted after it or named anew."""
    if build.vm.guest_disk is None:
        return
    used = (target.get("dev", "") for target in root.iterfind("devices/disk/target"))
    disk = add(only(root, "devices"), "disk", {"type": "file", "device": "disk"})
    add(disk, "driver", {"name": "qemu", "type": "raw"})
    add(disk, "source", {"file": build.vm.guest_disk})
    add(disk, "target", {"dev": _after(used), "bus": "virtio"})
    add(disk, "serial").text = GUEST_DISK_SERIAL
    add(disk, "readonly")


def _after(targets: Iterable[str]) -> str:
    """Return the virtio target that follows the last one used."""
    position = max((_position(target[2:]) for target in targets if target.startswith("vd")), default=-1) + 1
    tens, ones = divmod(position, 26)
    return "vd" + (ascii_lowercase[tens - 1] if tens else "") + ascii_lowercase[ones]


def _position(letters: str) -> int:
    position = 0
    for letter in letters:
        position = position * 26 + ascii_lowercase.index(letter) + 1
    return position - 1

"""Disks: each one an overlay over its image, on the bus and under the target that the guest knows."""

from lxml import etree

from launcher.domain_xml.build import Build
from launcher.domain_xml.tree import put_one

# An overlay dies with its vm, so nothing is gained by making the host flush it: what a crash of the node loses is lost
# with the vm, whose item is given again.
UNFLUSHED = {"cache": "unsafe"}
# A host that cannot read or write stops the vm, which the launcher sees and names; handed on to the guest it would pass
# for a fault of the item. Freed blocks go back to the node.
WRITABLE = {"error_policy": "stop", "rerror_policy": "stop", "discard": "unmap"}

_OVERLAY = {"name": "qemu", "type": "qcow2", **UNFLUSHED}


def set_disks(root: etree._Element, build: Build) -> None:
    """Put every disk on its overlay."""
    for disk in root.findall("devices/disk"):
        target = disk.find("target")
        assert target is not None, "a disk without a target was refused"
        device = disk.get("device") or "disk"
        disk.set("type", "file")
        disk.set("device", device)
        put_one(disk, "driver", _OVERLAY | WRITABLE if device == "disk" else _OVERLAY)
        put_one(disk, "source", {"file": build.vm.overlays[target.get("dev", "")]})

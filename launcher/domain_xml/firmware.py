"""Machine type, firmware and boot order."""

from lxml import etree

from launcher.domain_xml import machine_types
from launcher.domain_xml.build import Build
from launcher.domain_xml.tree import add, only, put_one, take_out

_BOOT_NAMES = {"disk": "hd", "cdrom": "cdrom", "floppy": "fd"}


def set_firmware(root: etree._Element, build: Build) -> None:
    """Put the machine on this host's hardware and firmware; secure boot stays off, the guest's keys are not here."""
    os = only(root, "os")
    machine = machine_types.on_host(build.facts.machine_type, build.node.machine_types)
    put_one(os, "type", {"arch": "x86_64", "machine": machine}, "hvm")
    if "firmware" in os.attrib:
        del os.attrib["firmware"]
    take_out(os, "firmware")
    if build.facts.firmware == "uefi":
        os.set("firmware", "efi")
        add(add(os, "firmware"), "feature", {"enabled": "no", "name": "secure-boot"})
        put_one(os, "nvram", text=build.vm.nvram)


def set_boot_order(root: etree._Element, _build: Build) -> None:
    """Boot from kept disks only, in the machine's own order."""
    disks = root.findall("devices/disk")
    ordered = sorted(root.findall("devices/disk/boot"), key=lambda boot: int(boot.get("order", "0")))
    for order, boot in enumerate(ordered, start=1):
        boot.set("order", str(order))
    bootable = {_BOOT_NAMES[disk.get("device", "disk")] for disk in disks} if not ordered else set()
    for boot in root.findall("os/boot"):
        if boot.get("dev") not in bootable:
            take_out(root, f"os/boot[@dev='{boot.get('dev')}']")

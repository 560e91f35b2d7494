"""Machine type, firmware and boot order.

A machine's own UEFI variables say where its boot loader is, in the layout of one build of the firmware: they work with
every firmware of the same layout, which the size of the file tells, and with no other. libvirt, choosing by itself,
would not look at that; so the launcher chooses where there are variables, and leaves it to libvirt elsewhere.

Source: https://libvirt.org/kbase/secureboot.html, https://www.qemu.org/docs/master/interop/firmware.html
"""

from fnmatch import fnmatchcase

from lxml import etree

from launcher.domain_xml import machine_types
from launcher.domain_xml.build import Build
from launcher.domain_xml.tree import add, only, put_one, take_out
from launcher.domain_xml.vm import Firmware

_BOOT_NAMES = {"disk": "hd", "cdrom": "cdrom", "floppy": "fd"}


class NoFirmware(Exception):
    """The node has no UEFI firmware that works with the machine's own variables: another node may."""


def set_firmware(root: etree._Element, build: Build) -> None:
    """Put the machine on this host's hardware and firmware; secure boot stays off, the guest's keys are not here.

    Raises:
        NoMachineType, NoFirmware: the node has nothing that stands for the machine's own.
    """
    os = only(root, "os")
    machine = machine_types.on_host(build.facts.machine_type, build.node.machine_types)
    put_one(os, "type", {"arch": "x86_64", "machine": machine}, "hvm")
    if "firmware" in os.attrib:
        del os.attrib["firmware"]
    take_out(os, "firmware")
    if build.facts.firmware == "bios":
        return
    if build.vm.nvram_bytes is None:
        os.set("firmware", "efi")
        add(add(os, "firmware"), "feature", {"enabled": "no", "name": "secure-boot"})
    else:
        firmware = _fitting(build.node.firmwares, machine, build.vm.nvram_bytes)
        put_one(os, "loader", {"readonly": "yes", "type": "pflash"}, firmware.loader)
    put_one(os, "nvram", text=build.vm.nvram)


def _fitting(firmwares: tuple[Firmware, ...], machine: str, variables_bytes: int) -> Firmware:
    family = machine_types.family_of(machine)
    # An alias such as `q35` stands for some version of its family.
    names = (machine, f"{family}-")
    for firmware in firmwares:
        if firmware.variables_bytes == variables_bytes and any(
            fnmatchcase(name, pattern) for name in names for pattern in firmware.machines
        ):
            return firmware
    known = ", ".join(f"{size:,}" for size in sorted({firmware.variables_bytes for firmware in firmwares})) or "none"
    raise NoFirmware(
        f"this node has no UEFI firmware that works with the machine's variables of {variables_bytes:,} bytes on "
        f"{machine!r} (sizes it can do: {known})"
    )


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

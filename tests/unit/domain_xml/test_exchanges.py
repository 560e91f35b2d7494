"""What an exchange adds to a vm, or takes from it, and how the output policy judges that when it is tampered with."""

import dataclasses
from typing import Any

import pytest
from lxml import etree

from launcher.domain_xml import DataDisk, Firmware, NoFirmware, Share, UnsafeOutput, Vm, check_output, transform
from tests.unit.domain_xml.cases import (
    ALLOWED,
    CASES,
    FIRMWARE,
    RUN_FOLDER,
    SEED_DISK,
    TICKET_FILE,
    allowed_for,
    node_with,
    vm_with,
)
from tests.unit.domain_xml.hostile import machine

IN = DataDisk(path=f"{RUN_FOLDER}/in.raw", serial="VMB_IN")
OUT = DataDisk(path=f"{RUN_FOLDER}/out.raw", serial="VMB_OUT", is_writable=True)
VIRTIOFS = Share(kind="virtiofs", folder=f"{RUN_FOLDER}/share", tag="vmbroker", socket=f"{RUN_FOLDER}/fs.sock")
NINE_P = Share(kind="9p", folder=f"{RUN_FOLDER}/share", tag="vmbroker9p")
UEFI = machine().replace("<os>", "<os firmware='efi'>")


def made(vm: Vm, xml: str = machine()) -> etree._Element:
    output = transform(xml.encode(), vm, node_with())
    check_output(output, allowed_for(vm))
    return etree.fromstring(output)


def vm_like(**changes: Any) -> Vm:
    return dataclasses.replace(vm_with(["vda"]), **changes)


def carried(vm: Vm, xml: str) -> list[tuple[str | None, ...]]:
    """Return target, bus, position, serial and whether it is read-only of every raw disk."""
    found: list[tuple[str | None, ...]] = []
    for disk in made(vm, xml).iterfind("devices/disk[driver]"):
        if disk.find("driver[@type='raw']") is not None:
            target, address = disk.find("target"), disk.find("address")
            assert target is not None
            place = (
                None if address is None else ":".join(address.get(name, "") for name in ("controller", "bus", "unit"))
            )
            is_read_only = "ro" if disk.find("readonly") is not None else "rw"
            found.append((target.get("dev"), target.get("bus"), place, disk.findtext("serial"), is_read_only))
    return found


def test_without_a_client_there_is_no_client_disk() -> None:
    assert len(made(vm_like(guest_disk=None)).findall("devices/disk")) == 1


def test_without_a_network_there_is_no_interface_whatever_the_xml_says() -> None:
    xml = machine("<interface type='network'/><interface type='bridge'/>")
    assert made(vm_like(has_network=False), xml).find("devices/interface") is None


def test_a_ticket_is_named_by_its_file_and_stands_alone_whatever_the_xml_says() -> None:
    xml = machine().replace("<os>", "<sysinfo type='smbios'><bios/></sysinfo><os>")
    (sysinfo,) = made(vm_like(), xml).findall("sysinfo")
    (entry,) = sysinfo
    assert (sysinfo.get("type"), entry.get("file"), entry.text) == ("fwcfg", TICKET_FILE, None)
    assert made(vm_like(ticket_file=None), xml).find("sysinfo") is None


def test_the_seed_is_read_only_and_behind_the_machines_disks() -> None:
    vm = vm_like(guest_disk=None, seed_disk=SEED_DISK)
    assert carried(vm, machine()) == [("vdb", "virtio", None, None, "ro")]


def _disk(bus: str, *targets: str) -> str:
    return "".join(f"<disk><target dev='{target}' bus='{bus}'/></disk>" for target in targets)


@pytest.mark.parametrize(
    ("disks", "controllers", "expected"),
    [
        (_disk("virtio", "vda"), "", [("vdb", "virtio", None), ("vdc", "virtio", None)]),
        (_disk("ide", "hda"), "", [("hdb", "ide", "0:0:1"), ("hdc", "ide", "0:1:0")]),
        (_disk("ide", "hda", "hdc"), "", [("hdd", "ide", "0:1:1"), ("vda", "virtio", None)]),
        (_disk("sata", "sda"), "", [("sdb", "sata", "0:0:1"), ("sdc", "sata", "0:0:2")]),
        (_disk("sata", "sda", "sde"), "", [("sdf", "sata", "0:0:5"), ("vda", "virtio", None)]),
        (
            _disk("scsi", "sda"),
            "<controller type='scsi' index='0' model='virtio-scsi'/>",
            [("sdb", "scsi", "0:0:1"), ("sdc", "scsi", "0:0:2")],
        ),
        (
            _disk("scsi", "sda"),
            "<controller type='scsi' index='0' model='lsisas1068'/>",
            [("vda", "virtio", None), ("vdb", "virtio", None)],
        ),
        (_disk("usb", "sda"), "", [("vda", "virtio", None), ("vdb", "virtio", None)]),
    ],
    ids=["virtio", "ide", "ide-full", "sata", "sata-full", "virtio-scsi", "other-scsi", "usb"],
)
def test_disks_that_carry_files_go_where_the_guests_own_first_disk_is(
    disks: str, controllers: str, expected: list[tuple[str | None, ...]]
) -> None:
    xml = machine(controllers, disk=disks).replace("'q35'", "'pc'" if "ide" in disks else "'q35'")
    targets = [disk.get("dev", "") for disk in etree.fromstring(xml).iterfind("devices/disk/target")]
    vm = dataclasses.replace(vm_with(targets), guest_disk=None, data_disks=(IN, OUT))
    places = carried(vm, xml)
    assert [place[:3] for place in places] == expected
    assert [place[3] for place in places] == ["VMB_IN", "VMB_OUT"]
    # QEMU has no read-only hard disk on IDE and SATA.
    assert places[0][4] == ("rw" if expected[0][1] in {"ide", "sata"} else "ro")
    assert places[1][4] == "rw"


def test_virtiofs_gets_memory_that_it_can_map_and_9p_none() -> None:
    root = made(vm_like(shares=(VIRTIOFS,)))
    assert root.find("memoryBacking/access[@mode='shared']") is not None
    assert root.find("devices/filesystem/driver[@type='virtiofs']") is not None
    assert made(vm_like(shares=(NINE_P,))).find("memoryBacking") is None


def test_a_machine_with_variables_gets_the_firmware_that_they_fit() -> None:
    root = made(vm_like(nvram_bytes=FIRMWARE.variables_bytes), UEFI)
    assert root.findtext("os/loader") == FIRMWARE.loader
    assert root.find("os[@firmware]") is None


@pytest.mark.parametrize(
    ("size", "machines"),
    [(131_072, FIRMWARE.machines), (FIRMWARE.variables_bytes, ("microvm",))],
    ids=["other-layout", "other-machine"],
)
def test_variables_that_no_firmware_of_the_node_fits_are_told(size: int, machines: tuple[str, ...]) -> None:
    firmware = Firmware(loader=FIRMWARE.loader, variables_bytes=FIRMWARE.variables_bytes, machines=machines)
    node = dataclasses.replace(node_with(), firmwares=(firmware,))
    with pytest.raises(NoFirmware, match=rf"variables of {size:,} bytes on 'q35' \(sizes it can do: 540,672\)"):
        transform(UEFI.encode(), vm_like(nvram_bytes=size), node)


def test_a_bios_machine_has_no_use_for_variables() -> None:
    assert made(vm_like(nvram_bytes=131_072)).find("os/nvram") is None


FULL = vm_like(seed_disk=SEED_DISK, data_disks=(IN, OUT), shares=(VIRTIOFS, NINE_P), nvram_bytes=540_672)
FULL_XML = transform(UEFI.encode(), FULL, node_with())
TAMPERED = {
    "data-disk-elsewhere": (OUT.path, "/etc/shadow"),
    "data-disk-probed": (
        f'type="raw" cache="unsafe"/>\n      <source file="{IN.path}',
        f'type="qcow2"/><source file="{IN.path}',
    ),
    "overlay-as-data-disk": (f'file="{RUN_FOLDER}/vda.qcow2"', f'file="{OUT.path}"'),
    "seed-writable": (
        f'<source file="{SEED_DISK}"/>\n      <target dev="vdd" bus="virtio"/>\n      <readonly/>',
        f'<source file="{SEED_DISK}"/><target dev="vdd"/>',
    ),
    "ticket-elsewhere": (f'file="{TICKET_FILE}"', 'file="/etc/shadow"'),
    "ticket-of-another-vm": (f'file="{TICKET_FILE}"', 'file="/scratch/slot1/vms/aaaa/ticket"'),
    "ticket-in-the-domain": (f'file="{TICKET_FILE}"/>', ">vt1.0.secret</entry>"),
    "ticket-by-another-name": ("opt/io.systemd.credentials/vmbroker.ticket", "opt/ovmf/PcdCode"),
    "ticket-as-smbios": ('<sysinfo type="fwcfg">', '<sysinfo type="smbios">'),
    "share-elsewhere": (f'dir="{NINE_P.folder}"', 'dir="/etc"'),
    "share-of-all-vms": (f'dir="{NINE_P.folder}"', 'dir="/scratch/slot1/vms"'),
    "share-passes-owners-through": ('accessmode="mapped"', 'accessmode="passthrough"'),
    "share-without-mode": (' accessmode="mapped"', ""),
    "socket-elsewhere": (f"{VIRTIOFS.socket}", "/run/docker.sock"),
    "socket-too-long": (f"{VIRTIOFS.socket}", f"{RUN_FOLDER}/{'s' * 108}"),
    "other-virtiofsd": ('<driver type="virtiofs"/>', "<driver type='virtiofs'/><binary path='/bin/sh'/>"),
    "memory-in-a-file": ('type="memfd"', 'type="file"'),
    "other-firmware": (FIRMWARE.loader, "/etc/shadow"),
    "firmware-writable": ('readonly="yes"', 'readonly="no"'),
    "variables-elsewhere": (f"{RUN_FOLDER}/nvram.fd", "/var/lib/libvirt/qemu/nvram/other.fd"),
    "no-network": ("interface", "nothing"),
}


@pytest.mark.parametrize(("old", "new"), TAMPERED.values(), ids=TAMPERED.keys())
def test_what_no_vm_may_have_is_found(old: str, new: str) -> None:
    check_output(FULL_XML, allowed_for(FULL))
    assert old in FULL_XML
    with pytest.raises(UnsafeOutput):
        check_output(FULL_XML.replace(old, new), allowed_for(FULL))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.accelerator}")
def test_nothing_that_an_exchange_adds_passes_for_a_vm_without_it(case: Any) -> None:
    vm = dataclasses.replace(vm_with(case.disks), data_disks=(IN, OUT), has_network=False)
    with pytest.raises(UnsafeOutput):
        check_output(transform(case.input.read_bytes(), vm, node_with(case.accelerator)), ALLOWED)

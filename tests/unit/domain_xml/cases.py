"""The machines of the golden files, and the vm and the node that they are turned into.

Those named after an operating system and without `-stopped` are `virsh dumpxml` of domains that really ran, made by
virt-install for that system; `debian11` after two external snapshots. `-stopped` is what virt-install wrote, with
Ubuntu's name for the machine type put in. The others were written by hand.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from broker.wire.states import Accelerator
from launcher.domain_xml import AllowedPaths, Firmware, Node, Vm, transform

DATA = Path(__file__).parent / "data"
RUN_FOLDER = "/scratch/slot1/vms/0f8fad5b"
TICKET_FILE = f"{RUN_FOLDER}/ticket"
ALLOWED = AllowedPaths(
    run_folder=RUN_FOLDER,
    cache_folder="/scratch/slot1/images",
    guest_disk="/scratch/slot1/guest/client-1.img",
    emulator="/usr/bin/qemu-system-x86_64",
    ticket_file=TICKET_FILE,
)
SEED_DISK = f"{RUN_FOLDER}/seed.iso"
FIRMWARE = Firmware(
    loader="/usr/share/OVMF/OVMF_CODE_4M.fd", variables_bytes=540_672, machines=("pc-i440fx-*", "pc-q35-*")
)
MACHINE_TYPES = ("pc", "q35", "pc-i440fx-7.2", "pc-i440fx-2.12", "pc-q35-2.9", "pc-q35-7.2", "pc-q35-4.0.1", "microvm")


class Case(NamedTuple):
    name: str
    disks: tuple[str, ...]
    accelerator: Accelerator = Accelerator.TCG

    @property
    def input(self) -> Path:
        return DATA / f"{self.name}.in.xml"

    @property
    def golden(self) -> Path:
        return DATA / f"{self.name}.{self.accelerator}.xml"

    def output(self) -> str:
        return transform(self.input.read_bytes(), vm_with(self.disks), node_with(self.accelerator))


CASES = (
    Case("desktop-q35-spice", ("vda",)),
    Case("desktop-q35-spice", ("vda",), Accelerator.KVM),
    Case("centos6-i440fx-ide", ("hda",)),
    Case("rhel9-uefi", ("vda", "vdc")),
    Case("windows-sata-scsi", ("sda", "sdb"), Accelerator.KVM),
    Case("windows-sata-scsi", ("sda", "sdb", "sdc")),
    Case("minimal", ("vda",)),
    Case("debian11-uefi-snapshots", ("vda",)),
    Case("fedora37-vnc-two-disks", ("vda", "vdb"), Accelerator.KVM),
    Case("opensuse15.4-pc-scsi", ("sda", "sdb")),
    Case("freebsd13-pc-headless", ("vda",), Accelerator.KVM),
    Case("windows10-sata", ("sda",), Accelerator.KVM),
    Case("centos5-pc-ide", ("hda",)),
    Case("ubuntu20.04-focal-stopped", ("vda",)),
    Case("windows11-uefi-tpm-stopped", ("sda",), Accelerator.KVM),
    Case("everything", ("vda", "sda", "hda", "hdc", "fda"), Accelerator.KVM),
)


def node_with(accelerator: Accelerator = Accelerator.TCG) -> Node:
    return Node(emulator=ALLOWED.emulator, accelerator=accelerator, machine_types=MACHINE_TYPES, firmwares=(FIRMWARE,))


def allowed_for(vm: Vm) -> AllowedPaths:
    """Return what the launcher allows to this vm and no other."""
    return dataclasses.replace(
        ALLOWED,
        guest_disk=vm.guest_disk,
        seed_disk=vm.seed_disk,
        ticket_file=vm.ticket_file,
        data_disks=[disk.path for disk in vm.data_disks],
        loaders=[FIRMWARE.loader],
        has_network=vm.has_network,
    )


def vm_with(disks: Iterable[str]) -> Vm:
    return Vm(
        dispatch_id="0f8fad5b-d9cb-469f-a165-70867728950e",
        item="alice/render/17",
        name="vmbroker-0f8fad5b",
        vcpus=2,
        memory_mib=2048,
        overlays={target: f"{RUN_FOLDER}/{target}.qcow2" for target in disks},
        guest_disk=ALLOWED.guest_disk,
        console_log=f"{RUN_FOLDER}/console.log",
        channel_socket=f"{RUN_FOLDER}/port.sock",
        nvram=f"{RUN_FOLDER}/nvram.fd",
        ticket_file=TICKET_FILE,
    )

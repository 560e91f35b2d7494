"""Machines as desktops export them, transformed and booted: by BIOS from every bus, by UEFI with its own variables."""

import asyncio
import itertools
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.wire.states import Accelerator
from launcher.domain_xml import AllowedPaths, DataDisk, Facts, Firmware, Node, Vm, check_output, examine, transform
from launcher.hypervisor.account import Account
from launcher.hypervisor.firmware import read_firmwares
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.hypervisor.private_daemon import private_daemon
from launcher.hypervisor.vm import StopReason
from tests.support.launching import short_folder
from tests.unit.domain_xml.cases import DATA

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

SHAPES = ("windows10-sata", "centos6-i440fx-ide", "desktop-q35-spice", "opensuse15.4-pc-scsi")
AT_ONCE = 2
BOOT_LIMIT_S = 60
MEMORY_MIB = 256
SECTOR_BYTES = 512
FIRST_SECTOR = 2048
GZIP = b"\x1f\x8b\x08"

# Runs in the guest in the client's place, from the disk labelled VMBROKER.
WITNESS = """\
#!/bin/sh
echo "witness: net $(ls /sys/class/net | tr '\\n' ' ')"
for disk in /sys/block/vd*; do echo "witness: disk $(cat "$disk/serial") ro $(cat "$disk/ro")"; done
"""
# The firmware's own shell runs it on a disk that has no boot loader where firmware looks for one.
STARTUP = """\
bcfg boot addp 0 fs0:\\linux\\kernel.efi Linux
bcfg boot -opt 0x0 fs0:\\options
reset -s
"""
KERNEL_OPTIONS = "console=ttyS0 panic=-1 initrd=\\linux\\initrd.img\0"


_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Lab:
    folder: Path
    account: Account
    hypervisor: Hypervisor
    node: Node

    async def boot(self, xml: bytes, image: Path, *, nvram: Path | None = None, has_network: bool = False) -> str:
        """Boot the machine with `image` as its first disk; return its console once it has powered itself off."""
        facts = examine(xml, ()).facts
        assert facts is not None
        vm = await asyncio.to_thread(self._vm, facts, image, nvram, has_network)
        domain = transform(xml, vm, self.node)
        allowed = AllowedPaths(
            run_folder=str(Path(vm.console_log).parent),
            cache_folder="/nowhere",
            guest_disk=vm.guest_disk,
            emulator=self.node.emulator,
            data_disks=[disk.path for disk in vm.data_disks],
            loaders=[firmware.loader for firmware in self.node.firmwares],
            has_network=has_network,
        )
        check_output(domain, allowed)
        try:
            async with asyncio.timeout(BOOT_LIMIT_S):
                started = await self.hypervisor.start_vm(domain)
                reason = await self.hypervisor.wait_stopped(started.uuid)
        finally:
            await self.hypervisor.destroy(vm.dispatch_id)
        console = Path(vm.console_log).read_text(errors="replace")
        assert reason is StopReason.GUEST_SHUTDOWN, console
        return console

    def _vm(self, facts: Facts, image: Path, nvram: Path | None, has_network: bool) -> Vm:
        number = next(_NUMBERS)  # several are made at once
        run = self.folder / f"run{number}"
        run.mkdir()
        overlay = run / "disk.qcow2"
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image), str(overlay)]
        subprocess.run(command, check=True, timeout=60)
        carried = [run / "in.raw", run / "out.raw"]
        for disk in carried:
            with disk.open("wb") as file:
                file.truncate(1024 * 1024)
        if nvram is not None:
            shutil.copyfile(nvram, run / "nvram.fd")
        for path in (run, *run.iterdir()):
            self.account.take(path)
        first = next(disk.target for disk in facts.disks if disk.device == "disk")
        return Vm(
            dispatch_id=f"00000000-0000-4000-8000-{number:012}",
            item="alice/boot/1",
            name=f"vmb-boot-{number}",
            vcpus=1,
            memory_mib=MEMORY_MIB,
            overlays={first: str(overlay)},
            guest_disk=str(self.folder / "witness.img"),
            console_log=str(run / "console.log"),
            channel_socket=str(run / "port.sock"),
            nvram=str(run / "nvram.fd"),
            nvram_bytes=None if nvram is None else nvram.stat().st_size,
            data_disks=(
                DataDisk(path=str(carried[0]), serial="VMB_IN"),
                DataDisk(path=str(carried[1]), serial="VMB_OUT", is_writable=True),
            ),
            has_network=has_network,
        )


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    account = Account.choose()
    with short_folder("vmb-") as folder:
        make_witness(folder / "witness.img")
        async with (
            private_daemon(folder / "d", account, show_kvm=False) as daemon,
            Hypervisor(daemon.uri, log_folder=daemon.log_folder, poll_s=0.5) as hypervisor,
        ):
            capabilities = await hypervisor.capabilities()
            node = Node(
                emulator=capabilities.emulator,
                accelerator=Accelerator.TCG,
                machine_types=tuple(capabilities.machines),
                firmwares=read_firmwares(),
            )
            yield Lab(folder, account, hypervisor, node)


def make_witness(disk: Path) -> None:
    tree = disk.with_name("witness")
    tree.mkdir()
    (tree / "run").write_text(WITNESS)
    (tree / "run").chmod(0o755)
    command = ["mkfs.ext4", "-q", "-L", "VMBROKER", "-d", str(tree), str(disk), "1M"]
    subprocess.run(command, check=True, timeout=60, capture_output=True)


async def test_machines_boot_from_every_bus_that_desktops_use(lab: Lab, minimal_image: Path) -> None:
    image = lab.folder / "minimal.qcow2"
    shutil.copyfile(minimal_image, image)
    room = asyncio.Semaphore(AT_ONCE)

    async def boot(shape: str) -> str:
        async with room:
            return await lab.boot((DATA / f"{shape}.in.xml").read_bytes(), image)

    async with asyncio.TaskGroup() as group:
        boots = {shape: group.create_task(boot(shape)) for shape in SHAPES}
    for shape, task in boots.items():
        console = task.result()
        assert "witness: net lo \n" in console, f"{shape}: {console}"
        assert "witness: disk VMBROKER ro 1" in console, f"{shape}: {console}"
    # The minimal image knows no other bus: there the disks that carry files are beside the machine's own.
    virtio = boots["desktop-q35-spice"].result()
    assert "witness: disk VMB_IN ro 1" in virtio
    assert "witness: disk VMB_OUT ro 0" in virtio


@pytest.mark.parametrize("firmware", read_firmwares(), ids=lambda firmware: Path(firmware.loader).stem)
async def test_a_uefi_machine_boots_by_its_own_variables(lab: Lab, minimal_image: Path, firmware: Firmware) -> None:
    """The boot loader is where only the variables of the machine's first boot say it is."""
    image, nvram = await asyncio.to_thread(install_uefi, lab, minimal_image, firmware)
    xml = (DATA / "debian11-uefi-snapshots.in.xml").read_bytes()
    console = await lab.boot(xml, image, nvram=nvram)
    assert "witness: disk VMBROKER ro 1" in console
    assert "EFI v2" in console


def install_uefi(lab: Lab, minimal_image: Path, firmware: Firmware) -> tuple[Path, Path]:
    """Make a disk of the minimal image's kernel, and variables by a first boot that names it to the firmware."""
    raw, tree = lab.folder / "minimal.raw", lab.folder / "esp"
    convert = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(minimal_image), str(raw)]
    subprocess.run(convert, check=True, timeout=60)
    kernel, initramfs = kernel_of(raw.read_bytes()[FIRST_SECTOR * SECTOR_BYTES :])
    (tree / "linux").mkdir(parents=True)
    (tree / "linux" / "kernel.efi").write_bytes(kernel)
    (tree / "linux" / "initrd.img").write_bytes(initramfs)
    image = lab.folder / "uefi.qcow2"
    convert = ["qemu-img", "convert", "-O", "qcow2", "-f", "vvfat", f"fat:16:{tree}", str(image)]
    subprocess.run(convert, check=True, timeout=60)
    (tree / "startup.nsh").write_text(STARTUP)
    (tree / "options").write_bytes(KERNEL_OPTIONS.encode("utf-16-le"))
    nvram = lab.folder / "nvram.fd"
    shutil.copyfile(firmware.loader.replace("CODE", "VARS"), nvram)
    command = [
        *(lab.node.emulator, "-M", "q35", "-accel", "tcg", "-m", str(MEMORY_MIB), "-nic", "none", "-display", "none"),
        *("-drive", f"if=pflash,format=raw,readonly=on,file={firmware.loader}"),
        *("-drive", f"if=pflash,format=raw,file={nvram}", "-drive", f"if=virtio,format=vvfat,file=fat:16:{tree}"),
    ]
    subprocess.run(command, check=True, timeout=BOOT_LIMIT_S)
    return image, nvram


def kernel_of(disk: bytes) -> tuple[bytes, bytes]:
    """Return the kernel and the initramfs that the minimal image has one after the other."""
    setup_sectors = disk[0x1F1]
    (paragraphs,) = struct.unpack_from("<I", disk, 0x1F4)
    end = disk.index(GZIP, (setup_sectors + 1) * SECTOR_BYTES + paragraphs * 16)
    return disk[:end], disk[end:]

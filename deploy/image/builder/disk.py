"""A bootable disk: a partition table, GRUB in the gap behind it, then a file system or a raw kernel; as qcow2.

GRUB starts the kernel by `linux16`, the 16-bit boot protocol: under emulation that is 1.4 s faster to the first program
than its `linux`, which puts the kernel where it will also unpack itself to.

Source: Linux, Documentation/arch/x86/boot.rst; GRUB manual, "BIOS installation" and "Block list syntax".
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .run import BuildFailed, as_root, run

SECTOR_BYTES = 512
FIRST_SECTOR = 2048  # 1 MiB: where every partitioning program starts, and room enough for GRUB before it
GRUB = Path("/usr/lib/grub/i386-pc")
# Self-tests, calibrations, waits and defences that a machine of one program and a few minutes has no use for: half a
# second of an emulated boot. Source: Linux, Documentation/admin-guide/kernel-parameters.txt.
QUICK_BOOT = (
    "nokaslr mitigations=off cryptomgr.notests no_timer_check tsc=reliable rcupdate.rcu_expedited=1 "
    "8250.nr_uarts=1 audit=0 random.trust_cpu=on"
)
_BOOT_CODE_BYTES = 440
_LINUX_PARTITION = 0x83


@dataclass(frozen=True)
class Boot:
    """What GRUB is told: its own modules, and the lines that it runs at once, without a menu."""

    modules: Sequence[str]
    script: str


def master_boot_record(boot_code: bytes, disk_sectors: int, disk_id: int) -> bytes:
    """Sector 0: boot code, and one active partition from `FIRST_SECTOR` to the end."""
    # Cylinder, head and sector: "beyond what these can say". Everybody reads the sector numbers that follow.
    beyond = b"\xfe\xff\xff"
    partition = struct.pack(
        "<B3sB3sII", 0x80, beyond, _LINUX_PARTITION, beyond, FIRST_SECTOR, disk_sectors - FIRST_SECTOR
    )
    return boot_code[:_BOOT_CODE_BYTES] + struct.pack("<IH", disk_id, 0) + partition + bytes(48) + b"\x55\xaa"


def install_grub(raw: Path, boot: Boot, log: Path) -> None:
    """Writes the partition table and GRUB before the first partition of `raw`; what follows is left alone.

    Raises:
        BuildFailed: GRUB does not fit there.
    """
    script = raw.with_name("grub.cfg")
    script.write_text(boot.script)
    core_file = raw.with_name("core.img")
    run(["grub-mkimage", "-O", "i386-pc", "-o", core_file, "-c", script, "-p", "/", "biosdisk", *boot.modules], log)
    core = core_file.read_bytes()
    if len(core) > (FIRST_SECTOR - 1) * SECTOR_BYTES:
        raise BuildFailed(f"GRUB is {len(core)} bytes and does not fit before the first partition")
    with raw.open("r+b") as disk:
        sectors = raw.stat().st_size // SECTOR_BYTES
        # boot.img expects the rest of GRUB in sector 1, where grub-mkimage's own block list says it is.
        disk.write(master_boot_record((GRUB / "boot.img").read_bytes(), sectors, disk_id=0x564D4252))
        disk.write(core)


def write_ext4(raw: Path, tree: Path, size_mib: int, uuid: str, log: Path) -> None:
    """Makes `raw` a disk of `size_mib` whose one partition is ext4 and holds `tree`, owners included."""
    with raw.open("wb") as disk:
        disk.truncate(size_mib * 1024 * 1024)
    offset = FIRST_SECTOR * SECTOR_BYTES
    run(
        [
            *as_root(),
            "mkfs.ext4",
            "-q",
            "-F",
            *("-d", str(tree)),
            *("-L", "root"),
            *("-U", uuid),
            *("-m", "0"),  # nothing reserved for root: everything here runs as root
            *("-O", "^metadata_csum"),  # some releases add its seed feature, which GRUB 2.06 cannot read
            *("-E", f"offset={offset},hash_seed={uuid}"),
            raw,
            f"{size_mib * 1024 - offset // 1024}k",
        ],
        log,
    )


def write_raw_kernel(raw: Path, kernel: bytes, initramfs: bytes, arguments: str) -> Boot:
    """Makes `raw` a disk without a file system: kernel and initramfs one after the other, read by sector number.

    Nothing but GRUB reads them, and it reads a run of sectors faster than a file, whose every block it looks up.
    """
    layout = []
    with raw.open("wb") as disk:
        sector = FIRST_SECTOR
        for data in (kernel, initramfs):
            disk.seek(sector * SECTOR_BYTES)
            disk.write(data)
            length = -(-len(data) // SECTOR_BYTES)
            layout.append(f"(hd0){sector}+{length}")
            sector += length
        disk.truncate(-(-sector // FIRST_SECTOR) * FIRST_SECTOR * SECTOR_BYTES)
    return Boot(["linux16"], f"linux16 {layout[0]} {arguments}\ninitrd16 {layout[1]}\nboot\n")


def boot_from_files(filesystem: str, arguments: str) -> Boot:
    """Boots /boot/vmlinuz and /boot/initrd.img of the first partition, which is the root file system, by its UUID."""
    return Boot(
        ["part_msdos", "ext2", "linux16"],
        "set root=(hd0,msdos1)\n"
        f"linux16 /boot/vmlinuz root=UUID={filesystem} {arguments}\n"
        "initrd16 /boot/initrd.img\n"
        "boot\n",
    )


def write_qcow2(raw: Path, qcow2: Path, log: Path) -> None:
    """Compressed: half the size to hash and upload, for half a second now, and no slower to boot."""
    run(["qemu-img", "convert", "-c", "-W", "-O", "qcow2", "-o", "compression_type=zstd", raw, qcow2], log)

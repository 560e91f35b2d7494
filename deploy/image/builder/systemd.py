"""What the images with systemd have in common: Debian as it installs itself, a kernel, GRUB, and only units they need.

An emulated CPU spends most of a boot in starting units, so those that a machine of one program does without are masked.
"""

import shutil
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import disk, packages
from .cache import SOURCES, Workplace
from .initramfs import busybox, compressed, file, folder, modules, newc
from .packages import only
from .run import run

COMMON_SOURCES = ("build", "builder", "initramfs", "systemd")
SYSTEM = ("systemd-sysv", "udev", "kmod")
KERNEL = "linux-image-cloud-amd64"
# Earlier ones have no findfs.
BUSYBOX_SUITE, BUSYBOX = "bookworm", "busybox-static"
# Whatever bus the disk is on: virtio, SATA or IDE. The rest is udev's work, as on any Debian.
INITRAMFS_MODULES = ("virtio_blk", "virtio_scsi", "ahci", "ata_piix", "sd_mod")
SIZE_MIB = 1024
ARGUMENTS = f"quiet panic=-1 net.ifnames=0 lsm=capability {disk.QUICK_BOOT}"
CONSOLE = "console=ttyS0"


@dataclass(frozen=True)
class Machine:
    """A machine as its owner made it. `kept_units` and `kept_generators` are spared although others mask them."""

    suite: str
    hostname: str
    system: Sequence[str]
    unpacked: Sequence[str] = ()
    modules: Sequence[str] = INITRAMFS_MODULES
    kept_units: Collection[str] = ()
    kept_generators: Collection[str] = ()


@dataclass(frozen=True)
class Parts:
    """A machine before it becomes a disk: its root folder, and the packages that were only unpacked beside it."""

    root: Path
    unpacked: Path
    versions: dict[str, str]


def install(machine: Machine, place: Workplace) -> Parts:
    """Install the system, its kernel and what is common to all; the caller adds what makes it its owner's."""
    root, extra = place.scratch / "root", place.scratch / "extra"
    debs = packages.download(machine.suite, [KERNEL, *machine.unpacked], place.scratch / "debs", place.log)
    debs += packages.download(BUSYBOX_SUITE, [BUSYBOX], place.scratch / "busybox", place.log)
    for deb in debs:
        packages.unpack(deb, extra, place.log)
    packages.install(machine.suite, [*SYSTEM, *machine.system], root, place.log)
    _add_kernel(root, extra, machine.modules, place.log)
    _configure(root, machine, machine_id=uuid.UUID(hex=place.digest * 2).hex)
    return Parts(root, extra, packages.installed_versions(root) | packages.file_versions(debs))


def write_disk(root: Path, place: Workplace) -> None:
    """Make the disk of the root folder, bootable by GRUB."""
    filesystem = str(uuid.UUID(hex=place.digest * 2))
    raw = place.scratch / "disk.raw"
    disk.write_ext4(raw, root, SIZE_MIB, filesystem, place.log)
    disk.install_grub(raw, disk.boot_from_files(filesystem, f"{CONSOLE} {ARGUMENTS}"), place.log)
    disk.write_qcow2(raw, place.disk, place.log)


def enable(root: Path, unit: str, folder: str, *, wanted_by: str) -> None:
    """Enable a unit that is in `folder` of the machine."""
    link(root / "etc/systemd/system" / f"{wanted_by}.wants" / unit, f"{folder}/{unit}")


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _add_kernel(root: Path, extra: Path, wanted: Sequence[str], log: Path) -> None:
    """Kernel, modules and a small initramfs: Debian's own, with udev and its libraries, is 10 MB and seconds slower."""
    kernel = only(extra, "boot/vmlinuz-*")
    shutil.copyfile(kernel, root / "boot/vmlinuz")
    tree = only(extra, "**/modules/*-amd64")
    shutil.copytree(tree, root / "lib/modules" / tree.name)
    run(["depmod", "--basedir", root, tree.name], log)
    (root / "boot/initrd.img").write_bytes(initramfs(only(extra, "**/bin/busybox"), tree, wanted))


def initramfs(program: Path, tree: Path, wanted: Sequence[str]) -> bytes:
    """The initramfs that looks for the root file system on every bus that `wanted` modules drive, in their order."""
    folders = map(folder, ["dev", "proc", "root", "sys"])
    init = file("init", (SOURCES / "initramfs/init").read_bytes(), 0o755)
    return compressed(newc([*folders, *busybox(program), *modules(tree, wanted), init]))


def _configure(root: Path, machine: Machine, machine_id: str) -> None:
    shutil.copytree(SOURCES / "systemd/root", root, dirs_exist_ok=True)
    files = {
        "etc/hostname": f"{machine.hostname}\n",
        "etc/hosts": f"127.0.0.1 localhost {machine.hostname}\n",
        # mmdebstrap copies the building machine's; QEMU's own network answers here.
        "etc/resolv.conf": "nameserver 10.0.2.3\n",
        "etc/fstab": "# The initramfs mounts the root file system.\n",
        "etc/machine-id": f"{machine_id}\n",
    }
    for path, text in files.items():
        (root / path).unlink(missing_ok=True)
        (root / path).write_text(text)
    for unit in _lines(SOURCES / "systemd/masked-units"):
        if unit not in machine.kept_units:
            link(root / "etc/systemd/system" / unit, "/dev/null")
    for generator in (root / "lib/systemd/system-generators").iterdir():
        if generator.name not in machine.kept_generators:
            link(root / "etc/systemd/system-generators" / generator.name, "/dev/null")
    enable(root, "systemd-networkd.service", "/lib/systemd/system", wanted_by="multi-user.target")
    for stamp in ("etc/.updated", "var/.updated"):
        (root / stamp).touch()


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]

"""The full image: what a researcher would bring. Debian, systemd, a boot loader, a program of science, and the stub."""

import shutil
import uuid
from pathlib import Path

from . import disk, packages, targets
from .cache import SOURCES, Recipe, Workplace
from .initramfs import busybox, compressed, file, folder, modules, newc
from .packages import only
from .run import run

SUITE = "trixie"
SYSTEM = ["systemd-sysv", "udev", "kmod", "hmmer"]
UNPACKED = ["busybox-static", "hmmer-examples", "linux-image-cloud-amd64"]
# Whatever bus the disk is on: virtio, SATA or IDE. The rest is udev's work, as on any Debian.
INITRAMFS_MODULES = ["virtio_blk", "virtio_scsi", "ahci", "ata_piix", "sd_mod"]
SIZE_MIB = 1024
ARGUMENTS = f"console=ttyS0 quiet panic=-1 net.ifnames=0 lsm=capability {disk.QUICK_BOOT}"
FILES = {
    "etc/hostname": "hmmer\n",
    "etc/hosts": "127.0.0.1 localhost hmmer\n",
    # mmdebstrap copies the building machine's; QEMU's own network answers here.
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    "etc/fstab": "# The initramfs mounts the root file system.\n",
}


def build(place: Workplace) -> dict[str, str]:
    root, extra = place.scratch / "root", place.scratch / "extra"
    debs = packages.download(SUITE, UNPACKED, place.scratch / "debs", place.log)
    for deb in debs:
        packages.unpack(deb, extra, place.log)
    packages.install(SUITE, SYSTEM, root, place.log)
    filesystem = str(uuid.UUID(hex=place.digest * 2))
    _add_kernel(root, extra, place.log)
    _configure(root, machine_id=uuid.UUID(hex=place.digest * 2).hex)
    _add_example(root, only(extra, "usr/share/doc/hmmer/examples"), place.result / "inputs")
    raw = place.scratch / "disk.raw"
    disk.write_ext4(raw, root, SIZE_MIB, filesystem, place.log)
    disk.install_grub(raw, _boot(filesystem), place.log)
    disk.write_qcow2(raw, place.disk, place.log)
    return packages.installed_versions(root) | packages.file_versions(debs)


def _add_kernel(root: Path, extra: Path, log: Path) -> None:
    """Kernel, modules and a small initramfs: Debian's own, with udev and its libraries, is 10 MB and seconds slower."""
    kernel = only(extra, "boot/vmlinuz-*")
    shutil.copyfile(kernel, root / "boot/vmlinuz")
    tree = only(extra, "**/modules/*-amd64")
    shutil.copytree(tree, root / "usr/lib/modules" / tree.name)
    run(["depmod", "--basedir", root, tree.name], log)
    folders = map(folder, ["dev", "proc", "root", "sys"])
    init = file("init", (SOURCES / "full/init").read_bytes(), 0o755)
    entries = [*folders, *busybox(only(extra, "**/bin/busybox")), *modules(tree, INITRAMFS_MODULES), init]
    (root / "boot/initrd.img").write_bytes(compressed(newc(entries)))


def _configure(root: Path, machine_id: str) -> None:
    shutil.copytree(SOURCES / "full/root", root, dirs_exist_ok=True)
    for path, text in (FILES | {"etc/machine-id": f"{machine_id}\n"}).items():
        (root / path).unlink(missing_ok=True)
        (root / path).write_text(text)
    units = root / "etc/systemd/system"
    for unit in _lines(SOURCES / "full/masked-units"):
        _link(units / unit, "/dev/null")
    for generator in (root / "usr/lib/systemd/system-generators").iterdir():
        _link(root / "etc/systemd/system-generators" / generator.name, "/dev/null")
    _enable(units, "systemd-networkd.service", "/usr/lib/systemd/system", wanted_by="multi-user.target")
    shutil.copy(SOURCES / "stub/vmbroker-guest.service", units)
    _enable(units, "vmbroker-guest.service", "..", wanted_by=r"dev-disk-by\x2dlabel-VMBROKER.device")
    for stamp in ("etc/.updated", "var/.updated"):
        (root / stamp).touch()


def _enable(units: Path, unit: str, folder: str, *, wanted_by: str) -> None:
    _link(units / f"{wanted_by}.wants" / unit, f"{folder}/{unit}")


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def _add_example(root: Path, examples: Path, inputs: Path) -> None:
    (root / "opt/app/targets.fa").write_text(targets.targets(examples))
    inputs.mkdir()
    for name in targets.ALIGNMENTS:
        (inputs / Path(name).name).write_text(targets.read(examples / name))


def _boot(filesystem: str) -> disk.Boot:
    return disk.Boot(
        ["part_msdos", "ext2", "linux16"],
        "set root=(hd0,msdos1)\n"
        f"linux16 /boot/vmlinuz root=UUID={filesystem} {ARGUMENTS}\n"
        "initrd16 /boot/initrd.img\n"
        "boot\n",
    )


RECIPE = Recipe("full", SUITE, about_s=40, sources=("build", "builder", "full", "stub"), build=build)

"""The exchange image: an owner's own start-up script and no client, on busybox and Debian's generic kernel.

Unlike the cloud kernel it mounts 9p, and has drivers for any disk that an old desktop gives a machine. The kernel lies
beside the image, too: libguestfs needs one, and a container or a build machine often has none.
"""

import shutil
import stat
import uuid
from collections.abc import Iterable
from pathlib import Path

from . import disk, packages, systemd
from .cache import SOURCES, Recipe, Workplace
from .initramfs import Entry, busybox, file, folder, link, modules, text_files
from .packages import only
from .run import run

SUITE = "bookworm"
DISKS = (
    *("crc32c_generic", "ext4"),
    *("virtio_pci", "virtio_blk", "virtio_scsi", "ahci", "ata_piix", "sd_mod", "sym53c8xx", "mptspi", "nvme"),
)
DEVICES = ("virtio_net", "virtio_console", "virtio_rng", "virtiofs", "9p", "9pnet_virtio", "e1000", "8139cp")
FOLDERS = ("dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "var", "boot", "sbin")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/fstab": "# The initramfs mounts the root file system.\n",
    "etc/os-release": 'ID=vmbroker-exchange\nPRETTY_NAME="vmbroker\'s guest without a client"\n',
}
SIZE_MIB = 96
ARGUMENTS = f"console=ttyS0 quiet panic=-1 net.ifnames=0 {disk.QUICK_BOOT}"


def build(place: Workplace) -> dict[str, str]:
    debs = packages.download(SUITE, ["busybox-static", "linux-image-amd64"], place.scratch / "debs", place.log)
    extra, root = place.scratch / "extra", place.scratch / "root"
    for deb in debs:
        packages.unpack(deb, extra, place.log)
    _fill(root, extra)
    filesystem = str(uuid.UUID(hex=place.digest * 2))
    raw = place.scratch / "disk.raw"
    disk.write_ext4(raw, root, SIZE_MIB, filesystem, place.log)
    disk.install_grub(raw, disk.boot_from_files(filesystem, ARGUMENTS), place.log)
    disk.write_qcow2(raw, place.disk, place.log)
    _keep_kernel(extra, place)
    return packages.file_versions(debs)


def _fill(root: Path, extra: Path) -> None:
    program, tree = only(extra, "**/bin/busybox"), only(extra, "**/modules/*-amd64")
    scripts = {"sbin/init": "exchange/init", "sbin/vmbroker-exchange": "exchange/vmbroker-exchange"}
    root.mkdir()
    write(
        root,
        [
            *map(folder, FOLDERS),
            *busybox(program),
            *modules(tree, [*DISKS, *DEVICES]),
            *text_files(FILES),
            *(file(path, (SOURCES / source).read_bytes(), 0o755) for path, source in scripts.items()),
            link("usr/bin", "../bin"),
            link("usr/sbin", "../sbin"),
        ],
    )
    shutil.copyfile(only(extra, "boot/vmlinuz-*"), root / "boot/vmlinuz")
    (root / "boot/initrd.img").write_bytes(systemd.initramfs(program, tree, DISKS))


def write(root: Path, entries: Iterable[Entry]) -> None:
    """Make the archive's entries below a folder instead."""
    for entry in entries:
        path = root / entry.path
        if stat.S_ISDIR(entry.mode):
            path.mkdir()
        elif stat.S_ISLNK(entry.mode):
            path.symlink_to(entry.data.decode())
        else:
            path.write_bytes(entry.data)
            path.chmod(stat.S_IMODE(entry.mode))


def _keep_kernel(extra: Path, place: Workplace) -> None:
    """Leaves `kernel/vmlinuz` and `kernel/modules/VERSION` in the image's folder."""
    tree = only(extra, "**/modules/*-amd64")
    run(["depmod", "--basedir", tree.parents[2], tree.name], place.log)
    kernel = place.result / "kernel"
    (kernel / "modules").mkdir(parents=True)
    only(extra, "boot/vmlinuz-*").rename(kernel / "vmlinuz")
    tree.rename(kernel / "modules" / tree.name)


RECIPE = Recipe("exchange", SUITE, about_s=15, sources=("build", "builder", "initramfs", "exchange"), build=build)

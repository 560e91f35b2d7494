"""The minimal image: Debian's cloud kernel and busybox, up in seconds, for tests. Needs no privileges to build."""

from pathlib import Path

from . import disk, packages
from .cache import SOURCES, Recipe, Workplace
from .initramfs import busybox, compressed, file, folder, modules, newc, text_files
from .packages import only

SUITE = "bookworm"
MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng"]
FOLDERS = ["dev", "etc", "proc", "root", "run", "sys", "tmp", "usr"]
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/os-release": 'ID=vmbroker-minimal\nPRETTY_NAME="vmbroker\'s minimal guest"\n',
}
ARGUMENTS = f"console=ttyS0 quiet panic=-1 {disk.QUICK_BOOT}"


def build(place: Workplace) -> dict[str, str]:
    debs = packages.download(SUITE, ["busybox-static", "linux-image-cloud-amd64"], place.scratch / "debs", place.log)
    tree = place.scratch / "tree"
    for deb in debs:
        packages.unpack(deb, tree, place.log)
    raw = place.scratch / "disk.raw"
    boot = disk.write_raw_kernel(raw, only(tree / "boot", "vmlinuz-*").read_bytes(), _initramfs(tree), ARGUMENTS)
    disk.install_grub(raw, boot, place.log)
    disk.write_qcow2(raw, place.disk, place.log)
    return packages.file_versions(debs)


def _initramfs(tree: Path) -> bytes:
    init = file("init", (SOURCES / "minimal/init").read_bytes(), 0o755)
    program = only(tree, "**/bin/busybox")
    return compressed(
        newc([*map(folder, FOLDERS), *busybox(program), *modules(tree, MODULES), *text_files(FILES), init])
    )


RECIPE = Recipe("minimal", SUITE, about_s=10, sources=("build", "builder", "minimal"), build=build)

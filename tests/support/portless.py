"""Guest images that find no port: the minimal one with other drivers, and those with systemd told to load fewer."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.image.builder import disk, minimal, packages, systemd
from deploy.image.builder.initramfs import busybox, compressed, file, folder, modules, newc, text_files
from tests.support.grid import REPOSITORY

PORT_DRIVER = "virtio_console"
FW_CFG_DRIVER = "qemu_fw_cfg"
STARTS = {PORT_DRIVER: "virtio_console_init", FW_CFG_DRIVER: "fw_cfg_sysfs_init"}
"""Where a kernel has them built in. Source: Linux, drivers/char/virtio_console.c, drivers/firmware/qemu_fw_cfg.c."""
LIMIT_S = 120
UNIT = "vmbroker-guest.service"
UNITS = "/etc/systemd/system"
WANTED_BY = r"dev-disk-by\x2dlabel-VMBROKER.device.wants"


def unpacked_kernel(scratch: Path) -> Path:
    """Download and unpack what the minimal image is made of."""
    tree, log = scratch / "tree", scratch / "log"
    names = ["busybox-static", "linux-image-cloud-amd64"]
    for deb in packages.download(minimal.SUITE, names, scratch / "debs", log):
        packages.unpack(deb, tree, log)
    return tree


def minimal_without_port(tree: Path, image: Path, drivers: Sequence[str] = ()) -> Path:
    """Make the minimal image of `tree` without the port's driver, and with `drivers`."""
    raw, log = image.with_suffix(".raw"), image.with_suffix(".log")
    wanted = [*(name for name in minimal.MODULES if name != PORT_DRIVER), *drivers]
    init = file("init", (REPOSITORY / "deploy/image/minimal/init").read_bytes(), 0o755)
    program = packages.only(tree, "**/bin/busybox")
    entries = [*map(folder, minimal.FOLDERS), *busybox(program), *modules(tree, wanted), *text_files(minimal.FILES)]
    kernel = packages.only(tree / "boot", "vmlinuz-*").read_bytes()
    boot = disk.write_raw_kernel(raw, kernel, compressed(newc([*entries, init])), minimal.ARGUMENTS)
    disk.install_grub(raw, boot, log)
    disk.write_qcow2(raw, image, log)
    return image


def forgetful(source: Path, image: Path, drivers: Sequence[str], *, with_stub: bool = False) -> Path:
    """Copy an image with systemd so that it loads none of `drivers`; with the stub, if it has no cloud-init."""
    raw, told = image.with_suffix(".raw"), image.with_suffix(".conf")
    told.write_text("".join(f"install {driver} /bin/false\n" for driver in drivers))
    commands = [f"write {told} /etc/modprobe.d/forgetful.conf"]
    if with_stub:
        unit = REPOSITORY / "deploy/image/stub" / UNIT
        commands += [f"write {unit.resolve()} {UNITS}/{UNIT}", f"mkdir {UNITS}/{WANTED_BY}"]
        commands += [f"symlink {UNITS}/{WANTED_BY}/{UNIT} ../{UNIT}"]
    _run("qemu-img", "convert", "-O", "raw", str(source), str(raw))
    offset = str(disk.FIRST_SECTOR * disk.SECTOR_BYTES)
    said = _run("debugfs", "-w", "-f", "-", f"{raw}?offset={offset}", stdin="\n".join(commands) + "\n")
    assert "File not found" not in said, said
    uuid = _run("blkid", "-p", "-O", offset, "-o", "value", "-s", "UUID", str(raw)).strip()
    skipped = ",".join(STARTS[driver] for driver in drivers)
    arguments = f"{systemd.CONSOLE} {systemd.ARGUMENTS} initcall_blacklist={skipped}"
    disk.install_grub(raw, disk.boot_from_files(uuid, arguments), image.with_suffix(".log"))
    _run("qemu-img", "convert", "-O", "qcow2", str(raw), str(image))
    raw.unlink()
    return image


def _run(*command: str, stdin: str = "") -> str:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    ended = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=LIMIT_S, check=True, env=environment
    )
    return ended.stdout + ended.stderr

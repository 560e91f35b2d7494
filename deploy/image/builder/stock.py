"""The stock image: a machine of an older release as virt-manager leaves it, with nothing of vmbroker and no Python.

Debian 11's glibc is 2.31, older than what the client was built for. Root is logged in on the serial console and on the
screen, as its owner would be, to install what a machine needs.
"""

import shutil

from . import systemd
from .cache import SOURCES, Recipe, Workplace

MACHINE = systemd.Machine(
    "bullseye",
    "stock",
    system=["curl", "ca-certificates"],
    modules=["virtio_pci", "virtio_blk"],
    kept_units={"getty.target", "serial-getty@.service", "systemd-user-sessions.service"},
)


def build(place: Workplace) -> dict[str, str]:
    parts = systemd.install(MACHINE, place)
    shutil.copytree(SOURCES / "stock/root", parts.root, dirs_exist_ok=True)
    units = parts.root / "etc/systemd/system"
    systemd.link(units / "getty.target.wants/serial-getty@ttyS0.service", "/lib/systemd/system/serial-getty@.service")
    systemd.write_disk(parts.root, place)
    return parts.versions


RECIPE = Recipe("stock", MACHINE.suite, about_s=40, sources=(*systemd.COMMON_SOURCES, "stock"), build=build)

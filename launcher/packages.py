"""Which package brings what, by family of distributions. The lists in deploy/node say the same, to those who install.

Source: os-release(5), for ID and ID_LIKE; the distributions' package lists.
"""

import platform
from enum import StrEnum
from typing import Final

from launcher.node_files import node_files


class Family(StrEnum):
    """Distributions whose packages have the same names."""

    DEBIAN = "debian"
    EL = "el"
    SUSE = "suse"


class Part(StrEnum):
    """What a node may lack."""

    QEMU = "qemu"
    QEMU_IMG = "qemu-img"
    LIBVIRTD = "libvirtd"
    E2FSPROGS = "e2fsprogs"
    VIRTIOFSD = "virtiofsd"
    FIRMWARE = "firmware"
    LIBGUESTFS = "libguestfs"


REQUIRED: Final = (Part.QEMU, Part.QEMU_IMG, Part.LIBVIRTD, Part.E2FSPROGS)

PACKAGES: Final[dict[Family, dict[Part, tuple[str, ...]]]] = {
    Family.DEBIAN: {
        Part.QEMU: ("qemu-system-x86",),
        Part.QEMU_IMG: ("qemu-utils",),
        Part.LIBVIRTD: ("libvirt-daemon", "libvirt-daemon-driver-qemu"),
        Part.E2FSPROGS: ("e2fsprogs",),
        Part.VIRTIOFSD: ("virtiofsd",),
        Part.FIRMWARE: ("ovmf",),
        Part.LIBGUESTFS: ("libguestfs-tools",),
    },
    Family.EL: {
        Part.QEMU: ("qemu-kvm",),
        Part.QEMU_IMG: ("qemu-img",),
        Part.LIBVIRTD: ("libvirt-daemon", "libvirt-daemon-driver-qemu"),
        Part.E2FSPROGS: ("e2fsprogs",),
        Part.VIRTIOFSD: ("virtiofsd",),
        Part.FIRMWARE: ("edk2-ovmf",),
        Part.LIBGUESTFS: ("guestfs-tools",),
    },
    Family.SUSE: {
        Part.QEMU: ("qemu-x86",),
        Part.QEMU_IMG: ("qemu-tools",),
        Part.LIBVIRTD: ("libvirt-daemon", "libvirt-daemon-driver-qemu"),
        Part.E2FSPROGS: ("e2fsprogs",),
        Part.VIRTIOFSD: ("virtiofsd",),
        Part.FIRMWARE: ("qemu-ovmf-x86_64",),
        Part.LIBGUESTFS: ("guestfs-tools",),
    },
}

INSTALL: Final[dict[Family, str]] = {
    Family.DEBIAN: "apt-get install --no-install-recommends",
    Family.EL: "dnf install",
    Family.SUSE: "zypper install --no-recommends",
}

_FAMILIES: Final[dict[str, Family]] = {
    "debian": Family.DEBIAN,
    "ubuntu": Family.DEBIAN,
    "rhel": Family.EL,
    "fedora": Family.EL,
    "centos": Family.EL,
    "suse": Family.SUSE,
    "opensuse": Family.SUSE,
    "sles": Family.SUSE,
}


def read_family() -> Family | None:
    """Return the family of this node's distribution, None when it is none of those known."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return None
    names = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    return next((_FAMILIES[name] for name in names if name in _FAMILIES), None)


def how_to_install(family: Family | None, *parts: Part) -> str:
    """Say what to type for the parts' packages; on an unknown distribution, which parts they are."""
    if family is None:
        return f"install {', '.join(parts)}: {node_files()} lists other distributions' packages"
    names = [package for part in parts for package in PACKAGES[family][part]]
    return f"{INSTALL[family]} {' '.join(names)}"


def lacks(name: str, part: Part) -> str:
    """Say that a program is not installed on this node, and what to type for it."""
    return f"{name} is not installed on this node: {how_to_install(read_family(), part)}"

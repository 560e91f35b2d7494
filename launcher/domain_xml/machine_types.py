"""Machine types of any host of the last fifteen years, and what stands for them on this one.

A guest is bound to the family (which chipset, which buses), hardly ever to the version of it, and distributions give
their versions names of their own: `pc-q35-rhel9.4.0`, `ubuntu-q35`, `rhel6.6.0`.

Source: https://www.qemu.org/docs/master/system/i386/pc.html
"""

import re
from collections.abc import Iterable
from enum import StrEnum

from launcher.domain_xml.rules import matches


class Family(StrEnum):
    """A chipset; its value is how upstream's versioned types begin."""

    I440FX = "pc-i440fx"
    Q35 = "pc-q35"


# In this order: Ubuntu's `ubuntu-q35` begins as its i440fx types do.
_FAMILIES = (
    (r"q35|pc-q35-.+|ubuntu-q35(-.+)?", Family.Q35),
    (r"pc|pc-i440fx-.+|pc-[0-9.]+|rhel[56]\.[0-9.]+|fedora-[0-9]+|ubuntu(-.+)?", Family.I440FX),
)
# libvirt's own choice for x86 when the XML names none.
DEFAULT = "pc"


def family_of(machine_type: str) -> Family | None:
    """Return the family, or None when the type is of no PC that we know."""
    return next((family for pattern, family in _FAMILIES if matches(pattern, machine_type)), None)


class NoMachineType(Exception):
    """The node's QEMU has no machine type of the machine's family: another node may."""


def on_host(machine_type: str, known: Iterable[str]) -> str:
    """Return `machine_type` when the host knows it, else the newest that it knows of the family.

    Raises:
        NoMachineType: the host has no type of the family.
    """
    known = list(known)
    if machine_type in known:
        return machine_type
    family = family_of(machine_type)
    relatives = [candidate for candidate in known if family_of(candidate) is family]
    if family is None or not relatives:
        raise NoMachineType(f"this node's QEMU has no machine type in place of {machine_type!r}")
    return max(relatives, key=_version)


def _version(machine_type: str) -> tuple[int, ...]:
    """Return the numbers of a versioned type, and none of an alias: what that stands for is not told here."""
    versioned = re.fullmatch("pc-(?:i440fx|q35)-(.+)", machine_type)
    return tuple(map(int, re.findall("[0-9]+", versioned[1]))) if versioned else ()

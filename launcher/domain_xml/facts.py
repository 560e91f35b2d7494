"""What a machine is, read from its XML, and what keeps it from being one that a node can run."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lxml import etree

from launcher.domain_xml import machine_types
from launcher.domain_xml.findings import Refusal
from launcher.domain_xml.images import DiskFact, read_disks
from launcher.domain_xml.rules import matches, text_of

MAX_VCPUS = 4096
MAX_MEMORY_MIB = 64 * 1024 * 1024
MAX_NAME_LENGTH = 255

# 64-bit hardware runs 32-bit guests; every node's QEMU is the 64-bit one.
_ARCHITECTURES = "x86_64|i[3-6]86"
_DOMAIN_TYPES = "kvm|qemu|kqemu|hvf"
_UEFI_LOADER = r"(?i).*(ovmf|edk2|uefi|aavmf).*"
_UNIT_BYTES = {"b": 1, "bytes": 1} | {
    unit: factor
    for power, letter in enumerate("kmgt", start=1)
    for unit, factor in ((letter, 1024**power), (f"{letter}ib", 1024**power), (f"{letter}b", 1000**power))
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A machine as its XML describes it. `machine_type` is the XML's own, which a host may not have."""

    name: str
    arch: str
    firmware: Literal["bios", "uefi"]
    machine_type: str
    vcpus: int
    memory_mib: int
    disks: tuple[DiskFact, ...]
    interfaces: int


def read_facts(root: etree._Element) -> Facts | None:
    """Return the facts, or None where vcpus or memory cannot be told; `unfit` then has the refusal."""
    vcpus, memory_mib = _vcpus(root), _memory_mib(root)
    if vcpus is None or memory_mib is None:
        return None
    return Facts(
        name=root.findtext("name", "")[:MAX_NAME_LENGTH],
        arch=_os_type(root, "arch", "x86_64"),
        firmware="uefi" if _is_uefi(root) else "bios",
        machine_type=_os_type(root, "machine", machine_types.DEFAULT),
        vcpus=vcpus,
        memory_mib=memory_mib,
        disks=read_disks(root),
        interfaces=len(root.findall("devices[1]/interface")),
    )


def unfit(root: etree._Element) -> Iterator[Refusal]:
    """Yield what makes the machine one that no node runs, its devices apart."""
    domain_type = root.get("type", "")
    if not matches(_DOMAIN_TYPES, domain_type):
        yield Refusal("/domain/@type", f"nodes run KVM and QEMU domains, this is {domain_type!r}", _CONVERT)
    os_type = root.findtext("os/type", "")
    if os_type != "hvm":
        yield Refusal("/domain/os/type", f"a vm boots as a full machine (hvm), this is {os_type!r}", _CONVERT)
    arch = _os_type(root, "arch", "x86_64")
    if not matches(_ARCHITECTURES, arch):
        yield Refusal("/domain/os/type/@arch", f"nodes run x86_64, this machine is {arch!r}", _REBUILD)
    machine_type = _os_type(root, "machine", machine_types.DEFAULT)
    if machine_types.family_of(machine_type) is None:
        yield Refusal("/domain/os/type/@machine", f"{machine_type!r} is no PC machine type", "use 'q35' or 'pc'")
    if _vcpus(root) is None:
        yield Refusal("/domain/vcpu", "it is no number of vcpus", f"give a number from 1 to {MAX_VCPUS}")
    if _memory_mib(root) is None:
        yield Refusal("/domain/memory", "it is no amount of memory", "give it as in <memory unit='MiB'>2048</memory>")


_CONVERT = "make it a QEMU/KVM machine on the desktop (virt-v2v does) and export that"
_REBUILD = "install the system in an x86_64 machine"


def _os_type(root: etree._Element, attribute: str, default: str) -> str:
    element = root.find("os/type")
    return default if element is None else element.get(attribute, default)


def _is_uefi(root: etree._Element) -> bool:
    loader = root.find("os/loader")
    return (
        root.find("os[@firmware='efi']") is not None
        or root.find("os/nvram") is not None
        or (loader is not None and (loader.get("type") == "pflash" or matches(_UEFI_LOADER, text_of(loader))))
    )


def _vcpus(root: etree._Element) -> int | None:
    element = root.find("vcpu")
    if element is None:
        return 1
    text = element.get("current") or text_of(element)
    return int(text) if matches("[0-9]{1,4}", text) and 1 <= int(text) <= MAX_VCPUS else None


def _memory_mib(root: etree._Element) -> int | None:
    element = root.find("memory")
    if element is None:
        return None
    unit_bytes = _UNIT_BYTES.get(element.get("unit", "KiB").lower())
    text = text_of(element)
    if unit_bytes is None or not matches("[0-9]{1,18}", text):
        return None
    memory_mib = -(-int(text) * unit_bytes // 2**20)
    return memory_mib if 1 <= memory_mib <= MAX_MEMORY_MIB else None

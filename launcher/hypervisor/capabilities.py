"""What a libvirt and its QEMU offer, as far as a domain's XML depends on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import libvirt
from lxml import etree

from launcher.hypervisor.errors import HypervisorError

ARCHITECTURE: Final = "x86_64"
_TRANSLATION_CACHE_SINCE: Final = 8


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What can be asked of this libvirt for an x86-64 guest without KVM.

    Attributes:
        emulator: QEMU's path.
        machines: Every machine type's name, with the name that it stands for (itself unless it is an alias like `q35`).
        firmwares: Values that `<os firmware=…>` can have here, `efi` among them if an OVMF is installed.
        libvirt_version: Such as `9.0.0`.
        qemu_version: Such as `7.2.22`.
        has_dac: Whether it runs QEMU as an account of its choice, to which it gives the files that a domain names, and
            afterwards to root, unless the domain's label says otherwise: a system's libvirtd does.
    """

    emulator: str
    machines: Mapping[str, str]
    firmwares: frozenset[str]
    libvirt_version: str
    qemu_version: str
    has_dac: bool = False

    @property
    def has_translation_cache(self) -> bool:
        """Whether libvirt takes a size for TCG's cache of translated code.

        Source: https://libvirt.org/formatdomain.html, "tb-cache", since 8.0.0.
        """
        return int(self.libvirt_version.partition(".")[0]) >= _TRANSLATION_CACHE_SINCE


def read_capabilities(connection: libvirt.virConnect) -> Capabilities:
    """Ask libvirt; blocks.

    Raises:
        HypervisorError: There is no QEMU for x86-64 here.
    """
    host = etree.fromstring(connection.getCapabilities())
    arch = host.find(f"guest[os_type='hvm']/arch[@name='{ARCHITECTURE}']")
    emulator = arch.findtext("emulator") if arch is not None else None
    if arch is None or emulator is None:
        raise HypervisorError(f"this libvirt has no QEMU for {ARCHITECTURE} (Debian: apt-get install qemu-system-x86)")
    domain = etree.fromstring(connection.getDomainCapabilities(emulator, ARCHITECTURE, None, "qemu"))
    return Capabilities(
        emulator=emulator,
        machines={str(machine.text): machine.get("canonical", str(machine.text)) for machine in arch.iter("machine")},
        firmwares=frozenset(str(value.text) for value in domain.iterfind("os/enum[@name='firmware']/value")),
        libvirt_version=_version(connection.getLibVersion()),
        qemu_version=_version(connection.getVersion()),
        has_dac=any(model.text == "dac" for model in host.iterfind("host/secmodel/model")),
    )


def _version(number: int) -> str:
    # 1,000,000 * major + 1,000 * minor + release: virConnectGetVersion.
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"

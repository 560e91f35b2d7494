"""The UEFI firmwares of the node, from the descriptors that QEMU's packagers install for libvirt and others to read.

Descriptors are read in the order of their names, and one in /etc stands for the same name in /usr/share. Older packages
install a firmware of the older, smaller layout without a descriptor, and machines with variables of that layout are
still about; so the usual places are looked at behind them.

Source: https://www.qemu.org/docs/master/interop/firmware.html
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from launcher.domain_xml import Firmware

FOLDERS: Final = (Path("/usr/share/qemu/firmware"), Path("/etc/qemu/firmware"))
WITHOUT_DESCRIPTOR: Final = tuple(
    (Path(loader), Path(variables))
    for loader, variables in (
        ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
        ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
        ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
    )
)
MAX_DESCRIPTOR_BYTES: Final = 65_536

_ARCHITECTURE = "x86_64"
_MACHINES = ("pc-i440fx-*", "pc-q35-*")
# With secure boot or its management mode, a guest's own boot loader would have to be signed by keys that are not here.
_UNWANTED_FEATURES = {"secure-boot", "requires-smm", "enrolled-keys"}

log = structlog.get_logger()


def read_firmwares(
    folders: Iterable[Path] = FOLDERS, without_descriptor: Iterable[tuple[Path, Path]] = WITHOUT_DESCRIPTOR
) -> tuple[Firmware, ...]:
    """Return the firmwares without secure boot whose files are there, the preferred first; blocks for a moment.

    A descriptor that cannot be read is left out, and logged.
    """
    firmwares: dict[str, Firmware] = {}
    for firmware in (*_described(folders), *_undescribed(without_descriptor)):
        firmwares.setdefault(firmware.loader, firmware)
    return tuple(firmwares.values())


def _described(folders: Iterable[Path]) -> Iterator[Firmware]:
    by_name = {file.name: file for folder in folders for file in sorted(folder.glob("*.json"))}
    for _, file in sorted(by_name.items()):
        try:
            with file.open("rb") as opened:
                content = opened.read(MAX_DESCRIPTOR_BYTES)
            # An empty one in /etc masks its namesake.
            if content.strip():
                yield from _read(msgspec.json.decode(content))
        except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
            log.warning("firmware_descriptor_unreadable", file=str(file), reason=repr(error))


def _read(descriptor: dict[str, Any]) -> Iterator[Firmware]:
    mapping = descriptor["mapping"]
    machines = [
        str(machine)
        for target in descriptor["targets"]
        if target["architecture"] == _ARCHITECTURE
        for machine in target["machines"]
    ]
    is_flash = mapping["device"] == "flash" and "nvram-template" in mapping
    if "uefi" not in descriptor["interface-types"] or not is_flash or not machines:
        return
    code, variables = mapping["executable"], mapping["nvram-template"]
    is_raw = code["format"] == "raw" and variables["format"] == "raw"
    if is_raw and _UNWANTED_FEATURES.isdisjoint(descriptor["features"]):
        yield from _firmware(Path(code["filename"]), Path(variables["filename"]), machines)


def _undescribed(pairs: Iterable[tuple[Path, Path]]) -> Iterator[Firmware]:
    for loader, variables in pairs:
        yield from _firmware(loader, variables, _MACHINES)


def _firmware(loader: Path, variables: Path, machines: Iterable[str]) -> Iterator[Firmware]:
    if loader.is_file() and variables.is_file():
        yield Firmware(loader=str(loader), variables_bytes=variables.stat().st_size, machines=tuple(machines))

"""A machine's UEFI variables: copied as raw bytes, as every node's firmware takes them."""

import asyncio
import shutil
import struct
from pathlib import Path

from broker.desktop.access import check_readable
from broker.desktop.failure import DesktopFailure
from broker.desktop.formats import format_of, read_head
from broker.desktop.images import read_image
from broker.desktop.programs import run

MAX_NVRAM_BYTES = 64 * 1024 * 1024
"""What the broker takes; OVMF's are 64 KiB to 4 MiB."""
_CONVERT_S = 60.0
_WHAT, _OPTION = "the UEFI variables", "--nvram"
_SUFFIXES = frozenset({".fd", ".qcow2"})
_SECTOR_BYTES = 4096
"""Of the flash chip that they are in. Source: QEMU, hw/i386/pc_sysfw.c, `FLASH_SECTOR_SIZE`."""
_VOLUME = struct.Struct("<32xQ4s")
"""Length and signature of a firmware volume. Source: UEFI PI 1.8, vol. 3, `EFI_FIRMWARE_VOLUME_HEADER`."""
_SIGNATURE = b"_FVH"


def check_name(path: Path) -> None:
    """Refuse a file that an XML of nobody knows whom chose, unless it has the name of UEFI variables.

    Raises:
        DesktopFailure: with what to do.
    """
    if "VARS" not in path.name or path.suffix not in _SUFFIXES:
        raise DesktopFailure(
            f"the XML chose {path} for the UEFI variables, which is not called as such (NAME_VARS.fd); if they are in "
            f"it, give it with {_OPTION}=PATH; else let its vms start with fresh ones: --fresh-nvram"
        )


async def copy_nvram(path: Path, nvram_format: str | None, copy: Path) -> None:
    """Copy the variables to `copy`, raw; a format that nobody declares is told by the first bytes.

    Raises:
        DesktopFailure: they cannot be read, or are none.
    """
    try:
        await _copy(path, nvram_format, copy)
        _check_volume(path, copy)
    except DesktopFailure as failure:
        raise DesktopFailure(f"{failure}; or let its vms start with fresh ones: --fresh-nvram") from failure


async def _copy(path: Path, nvram_format: str | None, copy: Path) -> None:
    check_readable(_WHAT, path, _OPTION)
    if not path.is_file():
        raise _none(path)
    _check_size(path, path.stat().st_size)
    nvram_format = nvram_format or format_of(f"{_WHAT}: {path}", read_head(path))
    if nvram_format == "raw":
        await asyncio.to_thread(shutil.copyfile, path, copy)
        return
    image = await read_image(_WHAT, path, _OPTION, image_format=nvram_format, is_chain_trusted=False)
    _check_size(path, image.top.virtual_bytes)
    arguments = ("convert", "-f", image.top.format, "-O", "raw", str(path.absolute()), str(copy))
    ended = await run("qemu-img", *arguments, timeout_s=_CONVERT_S)
    if ended.status != 0:
        raise DesktopFailure(f"the UEFI variables {path} cannot be copied: {ended.reason}")


def _check_size(path: Path, size_bytes: int) -> None:
    if size_bytes > MAX_NVRAM_BYTES:
        raise DesktopFailure(f"{path} is larger than UEFI variables are: give the machine's own file with --nvram=PATH")


def _check_volume(path: Path, copy: Path) -> None:
    """Refuse what firmware would not find its variables in: whatever else it is, it is not for others to see."""
    size_bytes, head = copy.stat().st_size, read_head(copy)
    if len(head) < _VOLUME.size or size_bytes % _SECTOR_BYTES:
        raise _none(path)
    volume_bytes, signature = _VOLUME.unpack_from(head)
    if signature != _SIGNATURE or not 0 < volume_bytes <= size_bytes:
        raise _none(path)


def _none(path: Path) -> DesktopFailure:
    return DesktopFailure(f"there are no UEFI variables in {path}: give the machine's own file with {_OPTION}=PATH")

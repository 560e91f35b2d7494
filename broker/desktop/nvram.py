"""A machine's UEFI variables: copied as raw bytes, as every node's firmware takes them."""

import asyncio
import shutil
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


async def copy_nvram(path: Path, nvram_format: str | None, copy: Path) -> None:
    """Copy the variables to `copy`, raw; a format that nobody declares is told by the first bytes.

    Raises:
        DesktopFailure: they cannot be read, or are none.
    """
    try:
        await _copy(path, nvram_format, copy)
    except DesktopFailure as failure:
        raise DesktopFailure(f"{failure}; or let its vms start with fresh ones: --fresh-nvram") from failure


async def _copy(path: Path, nvram_format: str | None, copy: Path) -> None:
    check_readable(_WHAT, path, _OPTION)
    if path.stat().st_size > MAX_NVRAM_BYTES:
        raise DesktopFailure(f"{path} is larger than UEFI variables are: give the machine's own file with --nvram=PATH")
    nvram_format = nvram_format or format_of(f"{_WHAT}: {path}", read_head(path))
    if nvram_format == "raw":
        await asyncio.to_thread(shutil.copyfile, path, copy)
        return
    image = await read_image(_WHAT, path, _OPTION, image_format=nvram_format, is_chain_trusted=False)
    arguments = ("convert", "-f", image.top.format, "-O", "raw", str(path.absolute()), str(copy))
    ended = await run("qemu-img", *arguments, timeout_s=_CONVERT_S)
    if ended.status != 0:
        raise DesktopFailure(f"the UEFI variables {path} cannot be copied: {ended.reason}")

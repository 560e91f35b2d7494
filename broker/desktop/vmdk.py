"""The files that a VMDK names, found before QEMU opens any of them.

Whatever is declared a VMDK and has no binary header is a text, and a binary header without a capacity points to one;
QEMU opens each file that the text names, a pipe or a network address too.

Source: QEMU, block/vmdk.c, `vmdk_parse_extents` and `vmdk_open_vmdk4`.
"""

import re
import struct
from pathlib import Path

from broker.desktop.failure import DesktopFailure
from broker.desktop.formats import FLATTEN

MAX_DESCRIPTOR_BYTES = 1024 * 1024
_SECTOR_BYTES = 512
_HOSTED, _ESX = b"KDMV", b"COWD"
_HEADER = struct.Struct("<4sIIQQQ")
"""Magic, version, flags, capacity, granularity, and the sector where a text begins."""
# Of all that QEMU may take for an extent: it reads words with scanf, which minds neither lines nor what follows.
_EXTENT = re.compile(rb'RW\s+[-+]?[0-9]+\s+[^\s"]+\s*"([^"\r\n]{1,511})')


def check_extents(what: str, path: Path) -> None:
    """Refuse a VMDK that keeps data anywhere but in itself and in plain `.vmdk` files beside it.

    Raises:
        DesktopFailure: with what to do.
    """
    for name in map(_text, _EXTENT.findall(_descriptor(path))):
        extent = path.parent / name
        is_beside = ":" not in name and extent.resolve().parent == path.resolve().parent
        if not is_beside or not name.endswith(".vmdk"):
            raise DesktopFailure(f"{what} keeps its data in {name}, which is not beside it: {_flatten(path)}")
        if not extent.is_file():
            raise DesktopFailure(f"{what} keeps its data in {name}, and there is no such file beside it: bring it back")
        if _text_start(extent):
            raise DesktopFailure(f"{what} keeps its data in {name}, which names further files: {_flatten(path)}")


def _descriptor(path: Path) -> bytes:
    """Return the text of a VMDK that names files; empty when it has none."""
    start = _text_start(path)
    if start is None or start > path.stat().st_size:
        return b""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(MAX_DESCRIPTOR_BYTES)


def _text_start(path: Path) -> int | None:
    """Return the byte where the text that names files begins; None where a file has a disk of its own instead."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
    if head.startswith(_ESX):
        return None
    if not head.startswith(_HOSTED):
        return 0
    if len(head) < _HEADER.size:
        return None
    *_, capacity, _, at_sector = _HEADER.unpack(head)
    # QEMU multiplies within 64 bits.
    return None if capacity else at_sector * _SECTOR_BYTES % 2**64


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")


def _flatten(path: Path) -> str:
    return FLATTEN.format(name=path)

"""Look into a disk image before QEMU does: what it says of itself may be made to harm whoever reads it.

A qcow2's header may name a backing file, a data file or absurd sizes, and QEMU follows them. The format is always the
one that the machine declares, never probed: a raw disk whose guest writes a qcow2 header would otherwise read files of
the node. What asks for other files is told by its first bytes, since older versions of `qemu-img info` open a data
file before they tell of it. The rest is judged by `qemu-img`, as QEMU's account, without a network and under limits: an
image it cannot read within them is not one that a vm can have.

Source: QEMU's docs/interop/qcow2.txt; qemu-img(1), "info"; CVE-2024-4467, CVE-2015-5163.
"""

import os
import signal
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from launcher.images.errors import BadImage, CacheFailed, ImageUnreadableHere
from launcher.images.source import Image

MAX_VIRTUAL_BYTES: Final = 4 << 40
SECTOR_BYTES: Final = 512
_HEADER: Final = struct.Struct(">4sIQIIQI24xI8xQ24xB")
"""Magic, version, backing file (place, length), cluster bits, size, encryption, snapshots, features, compression."""
_MAGIC: Final = b"QFI\xfb"
_EXTERNAL_DATA: Final = 1 << 2
_COMPRESSION: Final = 1 << 3
_ZSTD: Final = 1
_NOT_KNOWN: Final = b"compression type"
"""In the words of a QEMU that was built without it, and of one that is older than the feature."""
_MOST_SNAPSHOTS: Final = 1_000
_QUOTED_CHARACTERS: Final = 300
_SIGNALLED: Final = 128
_KILLED: Final = _SIGNALLED + signal.SIGKILL
"""By the node, short of memory: no limit of ours ends a program so."""


class Limits(NamedTuple):
    """What one look may take. `seconds` is for a node that is slow; an image that takes `cpu_s` is at fault itself."""

    seconds: int = 120
    cpu_s: int = 10
    memory_bytes: int = 1 << 30


class Ran(Protocol):
    """What a program said; `status` is 128 and the signal's number where one ended it."""

    @property
    def status(self) -> int: ...

    @property
    def out(self) -> bytes: ...

    @property
    def err(self) -> bytes: ...


RunAsQemu = Callable[[Sequence[str], Limits], Awaitable[Ran]]
"""Runs a program as QEMU's account, in no network, under the limits; raises `CacheFailed` when that cannot be done."""


class _Info(msgspec.Struct, rename="kebab"):
    """The part of `qemu-img info --output=json` that decides."""

    virtual_size: int
    backing_filename: str | None = None
    encrypted: bool = False


async def virtual_size(run: RunAsQemu, descriptor: int, path: Path, image: Image) -> int:
    """Return the bytes of the disk that an image stands for; `descriptor` is its file, open.

    Raises:
        BadImage: it is not of its format, asks for another file, is encrypted, or takes too much to look at.
        ImageUnreadableHere: this node's QEMU does not know its compression.
        CacheFailed: this node cannot look into images.
    """
    if image.format == "raw":
        size = -(-image.size_bytes // SECTOR_BYTES) * SECTOR_BYTES
    elif image.format == "qcow2":
        is_zstd = _check_header(os.pread(descriptor, _HEADER.size, 0), image)
        size = await _ask_qemu_img(run, path, image, is_zstd=is_zstd)
    else:
        raise BadImage(f"image {image.digest} is declared as {image.format}; a node boots raw and qcow2")
    if size > MAX_VIRTUAL_BYTES:
        raise BadImage(f"image {image.digest} claims {size} bytes; at most {MAX_VIRTUAL_BYTES} are served")
    return size


def _check_header(head: bytes, image: Image) -> bool:
    """Refuse what asks for another file or too much; tell whether its clusters are compressed by zstd."""
    fields = _HEADER.unpack(head.ljust(_HEADER.size, b"\0"))
    magic, version, backing, _, _, _, encryption, snapshots, features, compression = fields
    if magic != _MAGIC:
        raise BadImage(f"image {image.digest} is no qcow2 disk image: its first bytes are others")
    if backing:
        raise BadImage(
            f"image {image.digest} needs a backing file; flatten it with qemu-img convert and upload it again"
        )
    if version >= 3 and features & _EXTERNAL_DATA:
        raise BadImage(f"image {image.digest} keeps its data in another file; flatten it with qemu-img convert")
    if encryption:
        raise BadImage(f"image {image.digest} is encrypted; a node has no key for it")
    if snapshots > _MOST_SNAPSHOTS:
        raise BadImage(f"image {image.digest} has {snapshots} snapshots inside; a copy by qemu-img convert has none")
    return bool(version >= 3 and features & _COMPRESSION and compression == _ZSTD)


async def _ask_qemu_img(run: RunAsQemu, path: Path, image: Image, *, is_zstd: bool) -> int:
    limits = Limits()
    ran = await run(("qemu-img", "info", "--output=json", "-f", image.format, str(path)), limits)
    if ran.status == _KILLED:
        raise CacheFailed(f"qemu-img was killed on this node while it looked into image {image.digest}")
    if ran.status > _SIGNALLED:
        raise BadImage(
            f"image {image.digest} cannot be looked into with {limits.memory_bytes >> 20} MiB and {limits.cpu_s} s of "
            f"a processor ({_last_line(ran.err) or f'signal {ran.status - _SIGNALLED}'}): its header is damaged or "
            "made to harm; make it anew with qemu-img convert"
        )
    if ran.status != 0 and is_zstd and _NOT_KNOWN in ran.err:
        raise ImageUnreadableHere(
            f"this node's QEMU does not know the compression (zstd) of image {image.digest}; "
            "qemu-img convert -O qcow2 -o compression_type=zlib makes an image that every node reads"
        )
    if ran.status != 0:
        raise BadImage(f"image {image.digest} is no {image.format} disk image: {_last_line(ran.err)}")
    try:
        info = msgspec.json.decode(ran.out, type=_Info)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadImage(f"image {image.digest} has a header that qemu-img cannot tell of: {error}") from error
    if info.virtual_size < 0:
        raise BadImage(f"image {image.digest} claims {info.virtual_size} bytes: make it anew with qemu-img convert")
    if info.backing_filename is not None or info.encrypted:
        raise BadImage(f"image {image.digest} needs another file or a key; flatten it with qemu-img convert")
    return info.virtual_size


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1][-_QUOTED_CHARACTERS:] if lines else ""

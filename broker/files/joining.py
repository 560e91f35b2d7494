"""Joining files to one, which is hashed on the way."""

import os
from collections.abc import Iterable
from pathlib import Path

from broker.files.free_space import disk_full_told
from broker.files.upload import Hashed

_PIECE_BYTES = 4_194_304


def joined(parts: Iterable[Path], target: Path, begun: str) -> Hashed:
    """Write the parts one after another into a new file, durable; return how it hashes, for the upload `begun` so.

    Raises:
        Unavailable: `store_disk_full`; what was written is for the caller to remove.
    """
    hashed = Hashed(begun)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with disk_full_told(), os.fdopen(os.open(target, flags, 0o600), "wb", buffering=0) as file:
        for part in parts:
            with part.open("rb", buffering=0) as source:
                while piece := source.read(_PIECE_BYTES):
                    _write(file.fileno(), piece)
                    hashed.hasher.update(piece)
                    hashed.size_bytes += len(piece)
        os.fsync(file.fileno())
    return hashed


def _write(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]

"""What is on the disk when the call returns, and whole or not there after a crash."""

import os
from pathlib import Path


def write_record(target: Path, content: bytes, beside: Path) -> None:
    """Put a small file in place, whole or not at all; `beside`, in the same folder, is nobody else's meanwhile."""
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make names given or taken in a folder durable. Source: fsync(2)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

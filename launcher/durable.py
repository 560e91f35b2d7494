"""Giving a finished file its name, so that the name never stands for less than the whole file, power cuts included."""

import os
from pathlib import Path


def rename_durably(draft: Path, path: Path) -> None:
    """Put `draft` in the place of `path`, in the same folder or another of that file system; both are on disk after it.

    Raises:
        OSError: the disk could not take it; `path` is as it was, or already the whole draft.

    Source: fsync(2), rename(2).
    """
    _sync(draft)
    draft.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

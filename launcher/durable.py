"""Giving a finished file its name, so that the name never stands for less than the whole file, power cuts included."""

import os
import secrets
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


def write_durably(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a small file whole or not at all, and no more readable than `mode` at any time.

    Raises:
        OSError: the disk could not take it; `path` is as it was.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        rename_durably(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise

"""The bundle that this launcher runs from, if it was carried to the node as one.

A bundle is told by a file above the launcher's own package, not by the environment: what the launcher starts must not
inherit that it came in one.
"""

import functools
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

MARK: Final = "bundle.json"
"""At the top of a bundle; `bundle.contents` writes it."""
SITE_FOLDER: Final = "site"
"""Beside it, where a bundle has its packages."""
_MAX_BYTES: Final = 1 << 16
_DIGEST: Final = re.compile("sha256:[0-9a-f]{64}")


class BadBundle(Exception):
    """The bundle that this launcher seems to run from is not to be believed; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a launcher must know of its own bundle. `guest_disk` is a finished image of content `guest_disk_digest`."""

    folder: Path
    loader: Path
    libraries: Path
    guest_disk: Path
    guest_disk_digest: str


def carried() -> Bundle | None:
    """Return the bundle that this launcher runs from, None if it was installed in another way.

    Raises:
        BadBundle: it cannot be believed.
    """
    package = Path(__file__).resolve().parent
    # Anywhere else, above a checkout say, such a file is nobody's word.
    return _read(package) if package.parent.name == SITE_FOLDER else None


@functools.cache
def _read(package: Path) -> Bundle | None:
    folder = package.parents[1]
    mark = folder / MARK
    try:
        told = json.loads(_content(mark, package.stat().st_uid))
        return Bundle(
            folder=folder,
            loader=_inside(folder, told["loader"]),
            libraries=_inside(folder, told["libraries"]),
            guest_disk=_inside(folder, told["guest_disk"]),
            guest_disk_digest=_digest(told["guest_disk_digest"]),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadBundle(f"{mark} cannot be read: {error.strerror}; unpack the bundle anew") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadBundle(f"{mark} is not as a bundle has it: unpack the bundle anew") from error


def _content(mark: Path, owner: int) -> bytes:
    with os.fdopen(os.open(mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in {0, owner} or status.st_mode & 0o022:
            raise BadBundle(
                f"{mark} names programs to run, and others than the bundle's owner may have written it: it must be "
                f"root's or uid {owner}'s and nobody else's to write (chmod go-w); unpack the bundle anew if in doubt"
            )
        return file.read(_MAX_BYTES)


def _inside(folder: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise ValueError(f"{name} is not in the bundle")
    return folder / path


def _digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ValueError(f"{text} is no digest")
    return text

"""The bundle that this launcher runs from, if it was carried to the node as one.

A bundle is told by a file above the launcher's own package, not by the environment: what the launcher starts must not
inherit that it came in one.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK: Final = "bundle.json"
"""At the top of a bundle; `bundle.contents` writes it."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a launcher must know of its own bundle. `guest_disk` is a finished image of content `guest_disk_digest`."""

    folder: Path
    loader: Path
    libraries: Path
    guest_disk: Path
    guest_disk_digest: str


def carried() -> Bundle | None:
    """Return the bundle that this launcher runs from, None if it was installed in another way."""
    return _read(Path(__file__).resolve().parents[2])


@functools.cache
def _read(folder: Path) -> Bundle | None:
    try:
        told = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Bundle(
        folder=folder,
        loader=folder / told["loader"],
        libraries=folder / told["libraries"],
        guest_disk=folder / told["guest_disk"],
        guest_disk_digest=told["guest_disk_digest"],
    )

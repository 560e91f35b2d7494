"""Folders that only their owner may look into."""

from pathlib import Path


def make_private(folder: Path) -> None:
    """Make a folder and those missing above it, all 0700: `mkdir` alone gives its mode to the last one only."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)

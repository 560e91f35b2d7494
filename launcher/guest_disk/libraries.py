"""The shared libraries and the loader that binaries need, as this machine's own loader finds them."""

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from launcher.guest_disk.failure import CannotBuildGuestDisk

LDD_TIMEOUT_S = 60
# Loaded by name at run time, so no header names them; part of libc itself since glibc 2.34. Source: nsswitch.conf(5).
_NAME_SERVICE = ("libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2")
_NEEDED = re.compile(r"^\s+(\S+) => (\S+) \(0x", re.MULTILINE)
_MISSING = re.compile(r"^\s+(\S+) => not found", re.MULTILINE)
_LOADER = re.compile(r"^\s+(/\S*/ld-\S+) \(0x", re.MULTILINE)


class Libraries(NamedTuple):
    loader: Path
    files: dict[str, Path]
    """By the name that the loader looks for."""


def find_libraries(binaries: Iterable[Path]) -> Libraries:
    """Find all that the binaries load, transitively. Source: ldd(1).

    Raises:
        CannotBuildGuestDisk: something is not found, or this system has no such loader.
    """
    listing = _ldd([str(path) for path in binaries])
    if missing := sorted(set(_MISSING.findall(listing))):
        raise CannotBuildGuestDisk(f"these libraries are not found on this machine: {', '.join(missing)}")
    loader = _LOADER.search(listing)
    if loader is None:
        raise CannotBuildGuestDisk("this system's dynamic loader is not known: a launcher needs a glibc system")
    files = {name: Path(path).resolve() for name, path in _NEEDED.findall(listing)}
    return Libraries(Path(loader[1]).resolve(), files | dict(_name_service(files)))


def _name_service(files: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    beside_libc = files["libc.so.6"].parent
    for name in _NAME_SERVICE:
        if (beside_libc / name).is_file():
            yield name, (beside_libc / name).resolve()


def _ldd(paths: list[str]) -> str:
    try:
        done = subprocess.run(["ldd", *paths], capture_output=True, text=True, timeout=LDD_TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        raise CannotBuildGuestDisk("the command ldd is missing: install the libc's own tools") from error
    except subprocess.TimeoutExpired as error:
        raise CannotBuildGuestDisk(f"ldd did not answer within {LDD_TIMEOUT_S} s") from error
    if done.returncode != 0:
        raise CannotBuildGuestDisk(f"ldd failed: {done.stderr.strip()[:300]}")
    return done.stdout

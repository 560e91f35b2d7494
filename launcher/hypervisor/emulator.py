"""QEMU asked by itself, for where no libvirt is to be started."""

import shutil
import subprocess
from typing import Final

PROGRAMS: Final = ("qemu-system-x86_64", "/usr/libexec/qemu-kvm")
"""Red Hat installs the second one only."""
_LIMIT_S: Final = 20.0


def find_emulator() -> str | None:
    """Return the path of this node's QEMU for x86-64, or None."""
    return next((path for path in map(shutil.which, PROGRAMS) if path is not None), None)


def read_machine_types(emulator: str) -> tuple[str, ...]:
    """Return the machine types that QEMU lists, aliases among them; blocks while QEMU starts and ends.

    Raises:
        OSError, subprocess.SubprocessError: QEMU does not tell.
    """
    command = [emulator, "-machine", "help"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=True).stdout
    # A heading, then a line each: name, blanks, description.
    return tuple(line.split()[0] for line in listed.splitlines()[1:] if line.strip())

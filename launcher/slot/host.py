"""What the node has at this moment.

Source: proc(5), `MemAvailable`; statvfs(3).
"""

import os
from pathlib import Path
from typing import Final

from launcher.slot.words import KIB, MIB, Fact, Fault, Quantity, Surroundings, Word, Words

RESERVED_MIB: Final = 512
"""Left to the node itself."""


def host(around: Surroundings, scratch: Path, cache_mib: int = 0) -> Words:
    """Yield the memory that is available, less what the node keeps, and the space that an ordinary account has.

    Args:
        around: Where to look.
        scratch: Where vms write.
        cache_mib: How much of its space the image cache may yet take.
    """
    for line in (around.read("/proc/meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            mib = max(0, int(value.split()[0]) // KIB - RESERVED_MIB)
            yield Word(Quantity.MEMORY_MIB, Fact(mib, f"what is available, less {RESERVED_MIB} for the node"))
    try:
        status = os.statvfs(scratch)
    except OSError as error:
        yield Fault(f"the space of {scratch} cannot be found out: {error.strerror}")
        return
    free_mib = status.f_bavail * status.f_frsize // MIB
    less = f", less {cache_mib} for the image cache on the same disk" if cache_mib else ""
    yield Word(Quantity.DISK_MIB, Fact(max(0, free_mib - cache_mib), f"what is free in {scratch}{less}"))

"""What a process has in memory, and what it had at most while something went on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Peak:
    """`mib`: what was resident at most; known when the block has ended."""

    mib: float = 0.0


@contextmanager
def peak_of(pid: int) -> Iterator[Peak]:
    """Look at a process over the block. Source: proc(5), clear_refs and status."""
    peak = Peak()
    # The peak begins anew at what is resident now.
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    yield peak
    peak.mib = _mib_of(pid, "VmHWM")


def resident_mib(pid: int) -> float:
    """Return what is resident now."""
    return _mib_of(pid, "VmRSS")


def _mib_of(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024

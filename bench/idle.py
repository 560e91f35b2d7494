"""A launcher that keeps the books of many vms which do nothing."""

import asyncio
import os
from pathlib import Path

from bench.figures import Figure, median_of
from bench.ground import TINY, Ground, RunningLauncher, until
from tests.integration.hypervisor.processes import descendants, named, status

VMS = 50
_START_LIMIT_S = 300
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


async def measure(ground: Ground, launcher: RunningLauncher, *, settle_s: float, watch_s: float) -> list[Figure]:
    """Start the vms, let them settle, and look at the launcher for a while."""
    await asyncio.to_thread(ground.push, TINY, VMS)
    await until(lambda: ground.count(TINY, "started") >= VMS, f"{VMS} vms are started", limit_s=_START_LIMIT_S)
    await asyncio.sleep(settle_s)
    others = _others(launcher.pid)
    before = _cpu_s(launcher.pid), sum(map(_cpu_s, others))
    begun_s = asyncio.get_running_loop().time()
    await asyncio.sleep(watch_s)
    lasted_s = asyncio.get_running_loop().time() - begun_s
    own_percent = (_cpu_s(launcher.pid) - before[0]) / lasted_s * 100
    others_percent = (sum(map(_cpu_s, others)) - before[1]) / lasted_s * 100
    over = f"of one processor, over {lasted_s:.0f} s with {VMS} vms that only halt"
    return [
        median_of(
            f"launcher's memory, {VMS} vms idle", "MiB", [_memory_mib(launcher.pid)], reference="resident", at_most=150
        ),
        median_of(f"launcher's CPU, {VMS} vms idle", "%", [own_percent], reference=over, at_most=2),
        median_of(
            "  of its libvirtd and helpers: memory", "MiB", [sum(map(_memory_mib, others))], reference="resident"
        ),
        median_of("  of its libvirtd and helpers: CPU", "%", [others_percent], reference=over),
    ]


def _others(pid: int) -> list[int]:
    """Return the launcher's helpers: all that it started but the vms themselves."""
    below = descendants(pid)
    return sorted(set(below) - set(named(below, "qemu-system")))


def _memory_mib(pid: int) -> float:
    return int(status(pid)["VmRSS"].split()[0]) / 1024


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process and of its children that have ended. Source: proc(5), /proc/pid/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S

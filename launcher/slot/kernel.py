"""What the kernel holds this process to: its affinity, and the limits of its control groups, all the way up.

Source: sched_getaffinity(2); Linux Documentation/admin-guide/cgroup-v2.rst, `memory.max`, `memory.high`, `cpu.max`;
cgroup-v1/memory.rst and scheduler/sched-bwc.rst; cgroups(7); proc(5), mountinfo.
"""

import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from launcher.slot.words import MIB, Fact, Fault, Quantity, Surroundings, Word, Words

_UNLIMITED_BYTES: Final = 1 << 60
"""Version 1 says `none` by a number that is larger than any memory."""
_MAX_LEVELS: Final = 64


class _Group(NamedTuple):
    """A folder of a control group's files, from its mount's root down, and the version."""

    folders: list[str]
    version: int


def kernel(around: Surroundings) -> Words:
    """Yield each limit that binds."""
    yield Word(Quantity.VCPUS, Fact(len(os.sched_getaffinity(0)), "this process's affinity"))
    try:
        groups = list(_groups(around))
    except (OSError, ValueError, IndexError) as error:
        yield Fault(f"the control groups of this process cannot be found out: {error}")
        return
    for group in groups:
        for folder in group.folders:
            yield from _limits(around, folder, group.version)


def _limits(around: Surroundings, folder: str, version: int) -> Words:
    memory = ("memory.max", "memory.high") if version == 2 else ("memory.limit_in_bytes",)
    try:
        for name in memory:
            text = (around.read(f"{folder}/{name}") or "max").strip()
            if text != "max" and int(text) < _UNLIMITED_BYTES:
                yield Word(Quantity.MEMORY_MIB, Fact(int(text) // MIB, f"control group, {folder}/{name}"))
        yield from _quota(around, folder, version)
    except (OSError, ValueError, IndexError) as error:
        yield Fault(f"the control group {folder} cannot be read: {error}")


def _quota(around: Surroundings, folder: str, version: int) -> Words:
    if version == 2:
        name, quota, period = "cpu.max", *((around.read(f"{folder}/cpu.max") or "max 1").split())
    else:
        name = "cpu.cfs_quota_us"
        quota = (around.read(f"{folder}/{name}") or "-1").strip()
        period = (around.read(f"{folder}/cpu.cfs_period_us") or "1").strip()
    if quota != "max" and int(quota) > 0:
        yield Word(Quantity.VCPUS, Fact(max(1, int(quota) // int(period)), f"control group, {folder}/{name}"))


def _groups(around: Surroundings) -> Iterator[_Group]:
    paths: dict[str, str] = {}
    for line in (around.read(f"/proc/{around.pid}/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    for line in (around.read(f"/proc/{around.pid}/mountinfo") or "").splitlines():
        mount, _, rest = line.partition(" - ")
        fields, kind, options = mount.split(), rest.split()[0], rest.split()[-1].split(",")
        if kind == "cgroup2" and "" in paths:
            yield _Group(_upwards(fields[4], fields[3], paths[""]), 2)
        elif kind == "cgroup":
            for controller in ("memory", "cpu"):
                if controller in options and controller in paths:
                    yield _Group(_upwards(fields[4], fields[3], paths[controller]), 1)


def _upwards(mount: str, root: str, path: str) -> list[str]:
    """Return the folders from the group's own up to the mount's; what lies above or outside of it is not seen."""
    below, top = PurePosixPath(path), PurePosixPath(root)
    inside = below.relative_to(top) if below.is_relative_to(top) and ".." not in below.parts else PurePosixPath()
    return [str(PurePosixPath(mount) / part) for part in (inside, *inside.parents)][:_MAX_LEVELS]

"""What the node would lend, and where each size comes from."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from launcher.doctor.findings import Finding, fail, ok, warn
from launcher.doctor.node import Node
from launcher.node.slot import LEAST_S, MARGIN_S
from launcher.settings import slot_of
from launcher.slot import QEMU_OVERHEAD_MIB, Fact

_CGROUP: Final = Path("/sys/fs/cgroup")
_LITTLE_PIDS: Final = 200
_UNLIMITED: Final = 1 << 50


async def slot(node: Node) -> Iterable[Finding]:
    """The sizes that a launcher would offer, with where each comes from."""
    settings = node.settings
    facts = await asyncio.to_thread(slot_of, settings)
    told = [
        _size(facts.vcpus, "vcpus", "give the job processors"),
        _size(facts.memory_mib, "MiB of memory", "give the job more memory, or free some", least=QEMU_OVERHEAD_MIB + 1),
        _size(facts.disk_mib, "MiB of disk", "give the job more disk, or free some"),
    ]
    if facts.ends_at is not None and facts.end is not None:
        told.append(_end(facts.ends_at, facts.end.source, settings.drain_s))
    return [*told, *(warn(sentence) for sentence in facts.warnings)]


def _end(ends_at: datetime, source: str, drain_s: int) -> Finding:
    told = f"ends at {ends_at:%Y-%m-%dT%H:%M:%SZ}, from {source}"
    left_s = (ends_at - datetime.now(UTC)).total_seconds()
    if left_s <= 0:
        return fail(f"{told}: that is past, and a launcher takes nothing", "give the job more time, or correct the end")
    if left_s < drain_s + MARGIN_S + LEAST_S:
        return warn(f"{told}: too late for any vm", "give the job more time, or take a smaller drain_s")
    return ok(told)


def _size(fact: Fact, unit: str, mend: str, *, least: int = 1) -> Finding:
    told = f"{fact.value:,} {unit}, from {fact.source}"
    return ok(told) if fact.value >= least else fail(f"{told}: no vm has room in it", mend)


async def limits(node: Node) -> Iterable[Finding]:
    """The control group's bound on processes; the one on memory is in the slot's size."""
    del node
    pids = await asyncio.to_thread(lambda: _least(_own_group(), "pids.max"))
    if pids is None:
        return [ok("no control group bounds the number of processes")]
    if pids < _LITTLE_PIDS:
        return [warn(f"the control group allows {pids} processes and threads", "allow 100, and 20 more for each vm")]
    return [ok(f"the control group allows {pids:,} processes and threads")]


def _own_group() -> Path:
    """Return the folder of this process's group, in the hierarchy of version 2, else of the memory's in version 1."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            return _CGROUP / path.lstrip("/")
    return _CGROUP


def _least(folder: Path, name: str) -> int | None:
    """Return the least bound of a group and those above it, None when there is none."""
    found = []
    for group in (folder, *folder.parents):
        file = group / name
        if group.is_relative_to(_CGROUP) and file.is_file():
            text = file.read_text().strip()
            if text.isdigit() and int(text) < _UNLIMITED:
                found.append(int(text))
    return min(found, default=None)

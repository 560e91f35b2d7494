"""What the node lends to this launcher, and what of it is free.

Sizes come from the settings where given, else from what the kernel says of this process: its CPU affinity, the memory
that is available, the space of the scratch folder.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.wire.dispatches import Room
from broker.wire.states import Accelerator, Exchange

QEMU_OVERHEAD_MIB = 220
"""QEMU's own memory beside the guest's: 150 to 220 MiB measured under TCG with a 32 MiB translation cache."""
_RESERVED_MIB = 512
"""Left to the node itself when nobody says how much memory the slot has."""


class Slot:
    """Room for vms, handed out and taken back."""

    def __init__(
        self,
        *,
        vms: int,
        vcpus: int,
        memory_mib: int,
        disk_mib: int,
        accelerator: Accelerator,
        exchanges: tuple[Exchange, ...] = (Exchange.NETWORK,),
    ) -> None:
        self.free_vms = vms
        self.free_vcpus = vcpus
        self.free_memory_mib = memory_mib
        self.free_disk_mib = disk_mib
        self.accelerator = accelerator
        self.exchanges = exchanges

    def room(self) -> Room | None:
        """Return what one more vm could get, or None when there is no room for any."""
        memory_mib = self.free_memory_mib - QEMU_OVERHEAD_MIB
        if self.free_vms < 1 or self.free_vcpus < 1 or memory_mib < 1 or self.free_disk_mib < 1:
            return None
        return Room(
            vcpus=self.free_vcpus,
            memory_mib=memory_mib,
            disk_mib=self.free_disk_mib,
            accelerator=self.accelerator,
            exchanges=self.exchanges,
        )

    def told(self) -> dict[str, str | int]:
        """Return what is free, for the log."""
        return {
            "vms": self.free_vms,
            "vcpus": self.free_vcpus,
            "memory_mib": self.free_memory_mib,
            "disk_mib": self.free_disk_mib,
            "accelerator": self.accelerator.value,
            "exchanges": " ".join(self.exchanges),
        }

    @contextmanager
    def taken(self, *, vcpus: int, memory_mib: int, disk_mib: int) -> Iterator[None]:
        """Hold a vm's share of the slot while the block runs."""
        memory_mib += QEMU_OVERHEAD_MIB
        self.free_vms -= 1
        self.free_vcpus -= vcpus
        self.free_memory_mib -= memory_mib
        self.free_disk_mib -= disk_mib
        try:
            yield
        finally:
            self.free_vms += 1
            self.free_vcpus += vcpus
            self.free_memory_mib += memory_mib
            self.free_disk_mib += disk_mib


def node_vcpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def node_memory_mib() -> int:
    """Return the memory that is available now, less what the node keeps. Source: proc(5), MemAvailable."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return max(0, int(line.split()[1]) // 1024 - _RESERVED_MIB)
    raise RuntimeError("/proc/meminfo has no MemAvailable")


def free_disk_mib(folder: Path) -> int:
    """Return the space free for an ordinary account in the folder's file system."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize >> 20

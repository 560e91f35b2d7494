"""What the node lends to this launcher, what of it is free, and for how long.

The end is kept by the steady clock from the moment on when it was learnt: a clock that is set later moves it no more.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from broker.wire.dispatches import Room
from broker.wire.states import Accelerator, Exchange
from launcher.slot import QEMU_OVERHEAD_MIB, Fact

MARGIN_S = 15.0
"""From the end of a drain's grace to the slot's end: for destroying what still runs, and telling the broker."""
LEAST_S = 30.0
"""What is left before the drain and is less than this is of no use to any vm."""


class NoRoom(Exception):
    """Not even one vm has room in the slot; the text says what to do."""


class Slot:
    """Room for vms, handed out and taken back.

    Attributes:
        end: When the slot ends, in seconds since 1970, and who says so; None when nobody does.
    """

    def __init__(
        self,
        *,
        vms: int,
        vcpus: int,
        memory_mib: int,
        disk_mib: int,
        accelerator: Accelerator,
        exchanges: tuple[Exchange, ...] = (Exchange.NETWORK,),
        drain_s: float = 0.0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.end: Fact | None = None
        self._total_vms = vms
        self._drain_s = drain_s
        self._clock_s = clock_s
        self._end_s: float | None = None
        self.free_vms = vms
        self.free_vcpus = vcpus
        self.free_memory_mib = memory_mib
        self.free_disk_mib = disk_mib
        self.accelerator = accelerator
        self.exchanges = exchanges

    @property
    def is_idle(self) -> bool:
        return self.free_vms == self._total_vms

    @property
    def is_late(self) -> bool:
        """Whether too little time is left for any further vm."""
        left_s = self.left_s()
        return left_s is not None and left_s < LEAST_S

    def learn_end(self, end: Fact | None, now_s: float) -> None:
        """Take note of the slot's end, unless an earlier one is known.

        Args:
            end: In seconds since 1970.
            now_s: The time of day, in the same unit.
        """
        if end is None or (self.end is not None and end.value >= self.end.value):
            return
        self.end = end
        self._end_s = self._clock_s() + end.value - now_s

    def left_s(self) -> float | None:
        """Return what is left until the launcher drains for the slot's end, below 0 after it; None without an end."""
        return None if self._end_s is None else self._end_s - self._drain_s - MARGIN_S - self._clock_s()

    def room(self) -> Room | None:
        """Return what one more vm could get, or None when there is no room for any, or no time."""
        return None if self.is_late or self.free_vms < 1 or self._short() else self.free()

    def free(self) -> Room:
        """Return what is free, however little and late it is."""
        left_s = self.left_s()
        return Room(
            vcpus=self.free_vcpus,
            memory_mib=self.free_memory_mib - QEMU_OVERHEAD_MIB,
            disk_mib=self.free_disk_mib,
            accelerator=self.accelerator,
            exchanges=self.exchanges,
            time_left_ms=None if left_s is None else int(left_s * 1000),
            drain_ms=0 if left_s is None else int(self._drain_s * 1000),
        )

    def check(self) -> None:
        """Return when an empty slot has room for a vm.

        Raises:
            NoRoom: It has none.
        """
        if short := self._short():
            raise NoRoom(
                f"no vm has room in this slot, which has no {' and no '.join(short)}: `launcher doctor` tells why"
            )

    def _short(self) -> list[str]:
        sizes = {
            "vcpus": self.free_vcpus,
            f"memory beyond the {QEMU_OVERHEAD_MIB} MiB that QEMU itself takes": self.free_memory_mib
            - QEMU_OVERHEAD_MIB,
            "disk": self.free_disk_mib,
        }
        return [name for name, size in sizes.items() if size < 1]

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

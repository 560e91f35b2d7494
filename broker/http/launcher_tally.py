"""What stands between a ready item and each launcher that is there, counted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from broker.domain import deadlines, durations, placement
from broker.domain.placement import Need
from broker.wire.dispatches import Room
from broker.wire.machines import MachineView
from broker.wire.states import Accelerator
from broker.wire.streams import StreamSpec


class Standing(StrEnum):
    """How a launcher stands to an item, where no need of it is unmet."""

    FREE = "free"
    """It waits, with room for it."""
    BUSY = "busy"
    """It would have room for it if it were idle."""
    NOT_WELL = "not_well"
    SERVES_OTHERS = "serves_others"
    NO_ROOM_TOLD = "no_room_told"


@dataclass(slots=True)
class Tally:
    """Launchers by what stands between them and an item: an unmet need, or else a standing."""

    spec: StreamSpec
    machine: MachineView
    counts: dict[str, int] = field(default_factory=dict)
    _lacking: list[Room] = field(default_factory=list)

    def add(self, standing: Standing) -> None:
        self.counts[standing.value] = self.counts.get(standing.value, 0) + 1

    def add_room(self, room: Room, *, is_free: bool) -> None:
        """Count a launcher that serves the item's user by the most that it has."""
        need = lacking(self.spec, self.machine, room)
        if need is None:
            self.add(Standing.FREE if is_free else Standing.BUSY)
            return
        self.counts[need.value] = self.counts.get(need.value, 0) + 1
        self._lacking.append(room)

    def sentence(self) -> str:
        """Return all of it in words: `12 launchers: 9 have too little memory (largest 4096 MiB, it wants 8192), …`."""
        total = sum(self.counts.values())
        return f"{total} {'launcher' if total == 1 else 'launchers'}: {', '.join(self._parts())}"

    def _parts(self) -> Iterator[str]:
        for kind, count in sorted(self.counts.items(), key=lambda each: (-each[1], each[0])):
            yield f"{count} {self._said(kind, 'has' if count == 1 else 'have', count)}"

    def _said(self, kind: str, has: str, count: int) -> str:
        """Say what `count` launchers of a kind are; `has` is the verb's form."""
        needs, rooms = (
            self.spec.needs,
            [room for room in self._lacking if lacking(self.spec, self.machine, room) == kind],
        )
        is_, do = ("is", "does") if count == 1 else ("are", "do")
        match kind:
            case Need.VCPUS:
                return f"{has} too few vcpus (most {_most(room.vcpus for room in rooms)}, it wants {self._size.vcpus})"
            case Need.MEMORY:
                most = _most(room.memory_mib for room in rooms)
                return f"{has} too little memory (largest {most} MiB, it wants {self._size.memory_mib})"
            case Need.DISK:
                most = _most(room.disk_mib for room in rooms)
                return f"{has} too little disk (largest {most} MiB, it wants {self._size.disk_mib})"
            case Need.ACCELERATOR:
                return f"{has} no {needs.accelerator}"
            case Need.EXCHANGE:
                return f"{do} not know exchange {needs.exchange}"
            case Need.TIME:
                longest = durations.shown(max(0, _most(room.time_left_ms or 0 for room in rooms)))
                wants = durations.shown(self.spec.limits.run_ms)
                return f"{'ends' if count == 1 else 'end'} too soon (longest {longest}, its run limit is {wants})"
            case Standing.FREE:
                return f"{is_} free for it"
            case Standing.BUSY:
                return f"{is_} busy"
            case Standing.NOT_WELL:
                return f"{do} not ask for items now"
            case Standing.SERVES_OTHERS:
                return f"{'serves' if count == 1 else 'serve'} other users"
        return f"{has} told no room yet"

    @property
    def _size(self) -> placement.Size:
        return placement.size_of(self.spec.needs, self.machine.vcpus, self.machine.memory_mib, _NONE)


_NONE = Room(vcpus=1, memory_mib=1, disk_mib=1, accelerator=Accelerator.TCG)


def lacking(spec: StreamSpec, machine: MachineView, room: Room) -> Need | None:
    """Return the first need of the spec's vms that a room does not meet, or None when one has room in it."""
    size = placement.size_of(spec.needs, machine.vcpus, machine.memory_mib, room)
    boot_ms = deadlines.boot_ms(spec.limits.boot_ms, room.accelerator)
    return placement.lacking(spec.needs, size, boot_ms, spec.limits.run_ms, room)


def _most(numbers: Iterable[int]) -> int:
    return max(numbers, default=0)

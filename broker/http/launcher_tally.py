"""What stands between a ready item and each launcher that is there, counted."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from broker.domain import deadlines, durations, placement
from broker.domain.placement import Need
from broker.wire.dispatches import Room
from broker.wire.machines import MachineView
from broker.wire.streams import StreamSpec


class Standing(StrEnum):
    """How a launcher stands to an item, where no need of it is unmet."""

    FREE = "free"
    """It waits, with room for it."""
    BUSY = "busy"
    """It would have room for it if it were idle."""
    NOT_WELL = "not_well"
    SERVES_OTHERS = "serves_others"
    NOT_TRUSTED = "not_trusted"
    NO_ROOM_TOLD = "no_room_told"


@dataclass(slots=True)
class Tally:
    """Launchers by what stands between them and an item: an unmet need, or else a standing."""

    spec: StreamSpec
    machine: MachineView
    counts: dict[str, int] = field(default_factory=dict)
    _rooms: dict[Need, list[Room]] = field(default_factory=dict)
    """Those that do not meet a need."""

    def add(self, kind: Standing | Need) -> None:
        self.counts[kind.value] = self.counts.get(kind.value, 0) + 1

    def add_room(self, room: Room, *, is_free: bool) -> None:
        """Count a launcher that serves the item's user by the most that it has."""
        need = lacking(self.spec, self.machine, room)
        if need is None:
            self.add(Standing.FREE if is_free else Standing.BUSY)
        else:
            self.add(need)
            self._rooms.setdefault(need, []).append(room)

    def sentence(self) -> str:
        """Return all of it in words: `12 launchers: 9 have too little memory (largest 4096 MiB, it wants 8192), …`."""
        total = sum(self.counts.values())
        parts = sorted(self.counts.items(), key=lambda each: (-each[1], each[0]))
        said = ", ".join(f"{count} {self._said(kind, is_one=count == 1)}" for kind, count in parts)
        return f"{total} {'launcher' if total == 1 else 'launchers'}: {said}"

    def _said(self, kind: str, *, is_one: bool) -> str:
        if kind in set(Need):
            return self._unmet(Need(kind), is_one=is_one)
        one, many = _OF_STANDING[Standing(kind)]
        return one if is_one else many

    def _unmet(self, need: Need, *, is_one: bool) -> str:
        rooms, has = self._rooms[need], "has" if is_one else "have"
        wants = placement.size_of(self.spec.needs, self.machine.vcpus, self.machine.memory_mib, rooms[0])
        match need:
            case Need.VCPUS:
                return f"{has} too few vcpus (most {max(each.vcpus for each in rooms)}, it wants {wants.vcpus})"
            case Need.MEMORY:
                largest = max(each.memory_mib for each in rooms)
                return f"{has} too little memory (largest {largest} MiB, it wants {wants.memory_mib})"
            case Need.DISK:
                largest = max(each.disk_mib for each in rooms)
                return f"{has} too little disk (largest {largest} MiB, it wants {wants.disk_mib})"
            case Need.ACCELERATOR:
                return f"{has} no {self.spec.needs.accelerator}"
            case Need.EXCHANGE:
                return f"{'does' if is_one else 'do'} not know exchange {self.spec.needs.exchange}"
            case Need.TIME:
                longest = durations.shown(max(0, *(each.time_left_ms or 0 for each in rooms)))
                limit = durations.shown(self.spec.limits.run_ms)
                return f"{'ends' if is_one else 'end'} too soon (longest {longest}, its run limit is {limit})"
        assert_never(need)


_OF_STANDING = {
    Standing.FREE: ("is free for it", "are free for it"),
    Standing.BUSY: ("is busy", "are busy"),
    Standing.NOT_WELL: ("does not ask for items now", "do not ask for items now"),
    Standing.SERVES_OTHERS: ("serves other users", "serve other users"),
    Standing.NOT_TRUSTED: ("is not trusted with its secrets", "are not trusted with its secrets"),
    Standing.NO_ROOM_TOLD: ("has told no room yet", "have told no room yet"),
}
"""What is said of one, and of several."""


def lacking(spec: StreamSpec, machine: MachineView, room: Room) -> Need | None:
    """Return the first need of the spec's vms that a room does not meet, or None when one has room in it."""
    return placement.lacking(spec.needs, *_measured(spec, machine, room))


def unmet(spec: StreamSpec, machine: MachineView, room: Room) -> str | None:
    """Return the same as a sentence."""
    return placement.unmet(spec.needs, *_measured(spec, machine, room))


def _measured(spec: StreamSpec, machine: MachineView, room: Room) -> tuple[placement.Size, int, int, Room]:
    size = placement.size_of(spec.needs, machine.vcpus, machine.memory_mib, room)
    return size, deadlines.boot_ms(spec.limits.boot_ms, room.accelerator), spec.limits.run_ms, room

"""Does an item's vm fit into the room a launcher offers?"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from broker.domain import durations
from broker.wire.dispatches import Room
from broker.wire.streams import Needs


class Need(StrEnum):
    """What a vm needs of a room, in the order in which it is looked at."""

    VCPUS = "vcpus"
    MEMORY = "memory"
    DISK = "disk"
    ACCELERATOR = "accelerator"
    EXCHANGE = "exchange"
    TIME = "time"


class Size(NamedTuple):
    """What one vm takes of a node."""

    vcpus: int
    memory_mib: int
    disk_mib: int


def size_of(needs: Needs, machine_vcpus: int, machine_memory_mib: int, room: Room) -> Size:
    """Return a vm's size: what the stream says, all vcpus of the room for `slot`, else what the machine's XML says."""
    vcpus = room.vcpus if needs.vcpus == "slot" else needs.vcpus
    return Size(
        vcpus=vcpus if vcpus is not None else machine_vcpus,
        memory_mib=needs.memory_mib if needs.memory_mib is not None else machine_memory_mib,
        disk_mib=needs.disk_mib,
    )


def less(room: Room, size: Size) -> Room:
    """Return what is left of a room when a vm has its place in it; a size of 0 where nothing is."""
    return msgspec.structs.replace(
        room,
        vcpus=max(0, room.vcpus - size.vcpus),
        memory_mib=max(0, room.memory_mib - size.memory_mib),
        disk_mib=max(0, room.disk_mib - size.disk_mib),
    )


def how_many(room: Room, size: Size) -> int:
    """Return how many vms of that size fit into a room together."""
    return min(room.vcpus // size.vcpus, room.memory_mib // size.memory_mib, room.disk_mib // max(1, size.disk_mib))


def lacking(needs: Needs, size: Size, boot_ms: int, run_ms: int, room: Room) -> Need | None:
    """Return the first need that the room does not meet, or None when the vm fits.

    `boot_ms` and `run_ms` are the limits of booting and of running: what may take so long has to end in time.
    """
    is_met = {
        Need.VCPUS: size.vcpus <= room.vcpus,
        Need.MEMORY: size.memory_mib <= room.memory_mib,
        Need.DISK: size.disk_mib <= room.disk_mib,
        Need.ACCELERATOR: needs.accelerator in {None, room.accelerator},
        Need.EXCHANGE: needs.exchange in room.exchanges,
        Need.TIME: room.time_left_ms is None or boot_ms + run_ms <= room.time_left_ms,
    }
    return next((need for need, met in is_met.items() if not met), None)


def unmet(needs: Needs, size: Size, boot_ms: int, run_ms: int, room: Room) -> str | None:
    """Return the first need that the room does not meet as a sentence, or None when the vm fits; see `lacking`."""
    match lacking(needs, size, boot_ms, run_ms, room):
        case None:
            return None
        case Need.VCPUS:
            return f"wants {size.vcpus} vcpus, {room.vcpus} are free"
        case Need.MEMORY:
            return f"wants {size.memory_mib} MiB of memory, {room.memory_mib} are free"
        case Need.DISK:
            return f"wants {size.disk_mib} MiB of disk, {room.disk_mib} are free"
        case Need.ACCELERATOR:
            return f"wants {needs.accelerator}, the node has {room.accelerator}"
        case Need.EXCHANGE:
            return f"wants exchange {needs.exchange}, which the node cannot do"
        case Need.TIME:
            return _too_long(boot_ms, run_ms, max(0, room.time_left_ms or 0))


def _too_long(boot_ms: int, run_ms: int, left_ms: int) -> str:
    ends = f"the slot ends in {durations.shown(left_ms)}"
    if boot_ms >= left_ms:
        return f"may need {durations.shown(boot_ms)} to boot, {ends}"
    return (
        f"may need {durations.shown(boot_ms)} to boot and {durations.shown(run_ms)} to run (its run limit), {ends}: "
        "a shorter limits.run lets it start"
    )

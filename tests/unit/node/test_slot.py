import pytest

from broker.wire.states import Accelerator
from launcher.node.slot import LEAST_S, MARGIN_S, NoRoom, Slot
from launcher.slot import QEMU_OVERHEAD_MIB, Fact

NOW_S = 1_795_000_000.0


class Clock:
    """The steady clock of a node."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def slot_of(clock: Clock, *, vms: int = 2, drain_s: float = 0.0) -> Slot:
    return Slot(
        vms=vms,
        vcpus=3,
        memory_mib=2_000,
        disk_mib=50_000,
        accelerator=Accelerator.TCG,
        drain_s=drain_s,
        clock_s=clock,
    )


def test_a_vm_takes_its_share_and_qemus_overhead_and_gives_it_back() -> None:
    slot = slot_of(Clock())
    before = slot.room()
    with slot.taken(vcpus=1, memory_mib=512, disk_mib=10_000):
        room = slot.room()
        assert room is not None
        assert (room.vcpus, room.disk_mib) == (2, 40_000)
        assert room.memory_mib == 2_000 - 512 - 2 * QEMU_OVERHEAD_MIB
    assert slot.room() == before


def test_no_room_is_offered_when_any_part_of_it_is_gone() -> None:
    slot = slot_of(Clock(), vms=1)
    with slot.taken(vcpus=1, memory_mib=512, disk_mib=1):
        assert slot.room() is None
    assert Slot(vms=1, vcpus=1, memory_mib=QEMU_OVERHEAD_MIB, disk_mib=1, accelerator=Accelerator.TCG).room() is None


def test_a_slot_without_room_for_any_vm_says_what_it_has_none_of() -> None:
    Slot(vms=1, vcpus=1, memory_mib=QEMU_OVERHEAD_MIB + 1, disk_mib=1, accelerator=Accelerator.TCG).check()
    with pytest.raises(NoRoom, match="has no memory beyond the 220 MiB that QEMU itself takes and no disk: "):
        Slot(vms=1, vcpus=1, memory_mib=QEMU_OVERHEAD_MIB, disk_mib=0, accelerator=Accelerator.TCG).check()


def test_the_room_lasts_until_the_drain_and_no_clock_that_is_set_moves_it() -> None:
    clock = Clock()
    slot = slot_of(clock, drain_s=30)
    room = slot.room()
    assert room is not None
    assert room.time_left_ms is None
    slot.learn_end(Fact(int(NOW_S) + 1_000, "the batch system"), NOW_S)
    clock.now_s += 100
    room = slot.room()
    assert room is not None
    assert room.time_left_ms == (1_000 - 30 - MARGIN_S - 100) * 1000


def test_an_end_that_is_told_later_counts_when_it_is_earlier() -> None:
    clock = Clock()
    slot = slot_of(clock)
    slot.learn_end(Fact(int(NOW_S) + 1_000, "the batch system"), NOW_S)
    slot.learn_end(Fact(int(NOW_S) + 2_000, "the node"), NOW_S)
    assert slot.left_s() == 1_000 - MARGIN_S
    slot.learn_end(Fact(int(NOW_S) + 500, "the node"), NOW_S)
    assert slot.left_s() == 500 - MARGIN_S
    assert slot.end is not None
    assert slot.end.source == "the node"


def test_nothing_is_offered_when_too_little_time_is_left() -> None:
    clock = Clock()
    slot = slot_of(clock)
    slot.learn_end(Fact(int(NOW_S) + 1_000, "the batch system"), NOW_S)
    clock.now_s += 1_000 - MARGIN_S - LEAST_S
    assert slot.room() is not None
    clock.now_s += 1
    assert slot.is_late
    assert slot.room() is None


def test_the_room_of_a_slot_that_ends_tells_how_long_its_vms_may_take_to_stop() -> None:
    slot = slot_of(Clock(), drain_s=300.0)
    endless = slot.room()
    slot.learn_end(Fact(int(NOW_S) + 3_600, "the batch system"), NOW_S)
    ending = slot.room()
    assert endless is not None
    assert ending is not None
    assert (endless.drain_ms, ending.drain_ms) == (0, 300_000)

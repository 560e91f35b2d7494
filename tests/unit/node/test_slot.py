from broker.wire.states import Accelerator
from launcher.node.slot import QEMU_OVERHEAD_MIB, Slot


def test_a_vm_takes_its_share_and_qemus_overhead_and_gives_it_back() -> None:
    slot = Slot(vms=2, vcpus=3, memory_mib=2_000, disk_mib=50_000, accelerator=Accelerator.TCG)
    before = slot.room()
    with slot.taken(vcpus=1, memory_mib=512, disk_mib=10_000):
        room = slot.room()
        assert room is not None
        assert (room.vcpus, room.disk_mib) == (2, 40_000)
        assert room.memory_mib == 2_000 - 512 - 2 * QEMU_OVERHEAD_MIB
    assert slot.room() == before


def test_no_room_is_offered_when_any_part_of_it_is_gone() -> None:
    slot = Slot(vms=1, vcpus=8, memory_mib=8_000, disk_mib=50_000, accelerator=Accelerator.TCG)
    with slot.taken(vcpus=1, memory_mib=512, disk_mib=1):
        assert slot.room() is None
    assert Slot(vms=1, vcpus=1, memory_mib=QEMU_OVERHEAD_MIB, disk_mib=1, accelerator=Accelerator.TCG).room() is None

import msgspec
import pytest

from broker.domain.placement import Size, size_of, unmet
from broker.wire.dispatches import Room
from broker.wire.states import Accelerator, Exchange
from broker.wire.streams import Needs

ROOM = Room(vcpus=8, memory_mib=4_096, disk_mib=20_000, accelerator=Accelerator.KVM)
MINUTE_MS = 60_000


def size(needs: Needs) -> Size:
    return size_of(needs, 2, 1_024, ROOM)


def test_a_vm_is_as_large_as_its_machine_unless_the_stream_says_otherwise() -> None:
    assert size(Needs()) == Size(2, 1_024, 10_240)
    assert size(Needs(vcpus=3, memory_mib=512, disk_mib=1)) == Size(3, 512, 1)


def test_a_vm_that_wants_the_slot_gets_all_vcpus_of_the_room() -> None:
    needs = Needs(vcpus="slot")
    assert size(needs) == Size(8, 1_024, 10_240)
    assert unmet(needs, size(needs), 1_000, 1_000, ROOM) is None


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        (Needs(vcpus=9), "wants 9 vcpus"),
        (Needs(memory_mib=5_000), "wants 5000 MiB of memory"),
        (Needs(accelerator=Accelerator.TCG), "wants tcg"),
        (Needs(exchange=Exchange.SHARED), "wants exchange shared"),
    ],
)
def test_a_vm_that_does_not_fit_is_told_why(needs: Needs, said: str) -> None:
    assert (unmet(needs, size(needs), 1_000, 1_000, ROOM) or "").startswith(said)


@pytest.mark.parametrize(
    ("boot_ms", "run_ms", "left_ms", "said"),
    [
        (5 * MINUTE_MS, 55 * MINUTE_MS, 60 * MINUTE_MS, None),
        (
            5 * MINUTE_MS,
            24 * 60 * MINUTE_MS,
            3 * 60 * MINUTE_MS,
            "may need 5 min to boot and 24 h to run (its run limit), the slot ends in 3 h: "
            "a shorter limits.run lets it start",
        ),
        (
            15 * MINUTE_MS,
            90 * MINUTE_MS,
            100 * MINUTE_MS + 59_000,
            "may need 15 min to boot and 1 h 30 min to run (its run limit), the slot ends in 1 h 40 min: "
            "a shorter limits.run lets it start",
        ),
        (5 * MINUTE_MS, MINUTE_MS, 90_000, "may need 5 min to boot, the slot ends in 1 min 30 s"),
        (5 * MINUTE_MS, MINUTE_MS, -7, "may need 5 min to boot, the slot ends in 0 s"),
    ],
)
def test_a_vm_that_may_not_end_before_its_slot_does_is_told_what_would_let_it_start(
    boot_ms: int, run_ms: int, left_ms: int, said: str | None
) -> None:
    room = msgspec.structs.replace(ROOM, time_left_ms=left_ms)
    assert unmet(Needs(), size(Needs()), boot_ms, run_ms, room) == said

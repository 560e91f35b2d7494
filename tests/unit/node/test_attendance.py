"""What a launcher makes of the broker's word, with the ways there open and shut."""

from types import SimpleNamespace
from typing import cast

import pytest

from broker.wire.dispatches import DispatchAnswer, DispatchLimits
from broker.wire.states import Instruction, Verdict
from launcher.exchange.reach import Reach
from launcher.node.attendance import Attendance
from launcher.node.node import Node

LIMITS = DispatchLimits(boot_ms=1_000, run_ms=1_000, first_deadline_ms=1_000, heartbeat_ms=2_000)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def attendance_after(cut_s: float, open_s: float) -> Attendance:
    """Attend to a vm whose guest could not reach the broker for a while, and then could."""
    clock = Clock()
    guests = Reach(clock)
    guests.failed()
    clock.now_s += cut_s
    guests.worked()
    clock.now_s += open_s
    answer = cast("DispatchAnswer", SimpleNamespace(dispatch="d", limits=LIMITS))
    return Attendance(cast("Node", SimpleNamespace(name="l1")), answer, guests_reach=guests)


@pytest.mark.parametrize(
    ("cut_s", "open_s", "verdict"),
    [
        (4.0, 1.0, Verdict.NETWORK_CUT),
        (3.9, 1.0, Verdict.SUPERSEDED),
        (60.0, 4.1, Verdict.SUPERSEDED),
    ],
)
async def test_a_lost_item_is_the_networks_fault_when_nothing_came_through_for_two_heartbeats_just_before(
    cut_s: float, open_s: float, verdict: Verdict
) -> None:
    assert attendance_after(cut_s, open_s).told(Instruction.SUPERSEDED).verdict is verdict


async def test_a_drain_is_a_drain_whatever_the_network_does() -> None:
    assert attendance_after(60.0, 0.0).told(Instruction.DRAIN).verdict is Verdict.DRAINED


async def test_a_guest_that_could_not_claim_for_want_of_a_network_is_no_fault_of_its_machine() -> None:
    ending = await attendance_after(60.0, 0.0).cut_off()
    assert ending is not None
    assert ending.verdict is Verdict.NETWORK_CUT
    assert await attendance_after(1.0, 0.0).cut_off() is None

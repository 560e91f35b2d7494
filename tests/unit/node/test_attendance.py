"""What a launcher makes of the broker's word, with the ways there open and shut."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from broker.client.session import ApiError, Patience
from broker.wire.dispatches import DispatchAnswer, DispatchExtend, DispatchExtended, DispatchLimits
from broker.wire.problems import ProblemCode, problem
from broker.wire.states import HealthCode, Instruction, Verdict
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
    return Attendance(
        cast("Node", SimpleNamespace(name="l1", broker="http://127.0.0.1:9")), answer, guests_reach=guests
    )


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


BOOT_S = 0.1
AWAY = ApiError(problem(ProblemCode.STORE_UNAVAILABLE, "the store is away"))


class Broker:
    """Answers 503 until the boot deadline is well over; then what it is told to say."""

    def __init__(self, *says: DispatchExtended) -> None:
        self._says = list(says)
        self._back_s = asyncio.get_running_loop().time() + 3 * BOOT_S

    async def extend(self, dispatch: str, extend: DispatchExtend, *, patience: Patience) -> DispatchExtended:
        if asyncio.get_running_loop().time() < self._back_s:
            raise AWAY
        return self._says.pop(0) if len(self._says) > 1 else self._says[0]


def attendance_at(broker: Broker) -> Attendance:
    limits = DispatchLimits(boot_ms=round(BOOT_S * 1000), run_ms=1_000, first_deadline_ms=1_000, heartbeat_ms=20)
    answer = cast("DispatchAnswer", SimpleNamespace(dispatch="d", limits=limits))
    return Attendance(cast("Node", SimpleNamespace(name="l1", broker="http://127.0.0.1:9", dispatches=broker)), answer)


STILL_DISPATCHED = DispatchExtended(instruction=Instruction.CONTINUE, state="dispatched", deadline_in_ms=250_000)


async def test_a_broker_without_its_store_takes_no_time_from_a_guest_that_boots() -> None:
    drained = DispatchExtended(instruction=Instruction.DRAIN, state="dispatched")
    attendance = attendance_at(Broker(STILL_DISPATCHED, drained))
    attendance.vm_booted()
    async with asyncio.timeout(10):
        assert (await attendance.until_told()).verdict is Verdict.DRAINED


async def test_a_guest_that_does_not_claim_after_an_outage_either_says_nothing_of_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("launcher.node.attendance._CLAIM_AGAIN_S", 0.1)
    attendance = attendance_at(Broker(STILL_DISPATCHED))
    attendance.vm_booted()
    async with asyncio.timeout(10):
        ending = await attendance.until_told()
    assert (ending.verdict, ending.code) == (Verdict.NETWORK_CUT, HealthCode.NETWORK_CUT)

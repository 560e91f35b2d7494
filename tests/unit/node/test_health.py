from datetime import UTC, datetime

import pytest

from broker.wire.states import HealthCode, HealthState, Verdict
from launcher.node.health import (
    EXCLUDED_PAUSE_S,
    FAULTS,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    NEVER_CLAIMS_LIMIT,
    TRANSITIONS,
    Fault,
    NodeHealth,
)
from launcher.node.verdicts import Ending

FULL = Ending(Verdict.HOST_ERROR, "the disk is full", HealthCode.DISK_FULL)
AWAY = Ending(Verdict.HOST_ERROR, "the image store is away", HealthCode.IMAGE_SOURCE_AWAY)
SILENT = Ending(Verdict.NEVER_CLAIMED, "no claim in time")
DONE = Ending(Verdict.STOPPED_EARLY, "it powered itself off")
CANCELLED = Ending(Verdict.CANCELLED, "the item was cancelled")


class Node:
    """A node's health, with a clock that the test moves and vms named by their number."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.health = NodeHealth(self.now_s)
        self._taken = 0

    @property
    def state(self) -> HealthState:
        self.admits()
        return self.health.state

    def admits(self) -> bool:
        return self.health.admits(self.now_s)

    def take(self) -> str:
        assert self.admits()
        self._taken += 1
        self.health.taken(str(self._taken), self.now_s)
        return str(self._taken)

    def claim(self, vm: str) -> None:
        self.health.claimed(vm, self.now_s)

    def end(self, vm: str, ending: Ending, *, machine_claimed: bool = True) -> None:
        self.health.ended(vm, ending, self.now_s, machine_claimed=machine_claimed)

    def run(self, ending: Ending, *, machine_claimed: bool = True) -> None:
        self.end(self.take(), ending, machine_claimed=machine_claimed)

    def wait_s(self) -> float:
        wait_s = self.health.wait_s(self.now_s)
        assert wait_s is not None
        return wait_s

    def wait(self) -> float:
        """Let the pause pass; return how long it was."""
        wait_s = self.wait_s()
        self.now_s += wait_s
        return wait_s


def test_each_fault_of_the_nodes_own_doubles_the_pause_up_to_ten_minutes() -> None:
    node = Node()
    pauses = []
    for _ in range(9):
        node.run(FULL)
        assert (node.state, node.admits()) == (HealthState.BACKING_OFF, False)
        pauses.append(node.wait())
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE_S, LONGEST_PAUSE_S)


def test_behind_a_pause_one_vm_goes_first_and_the_others_follow_its_claim() -> None:
    node = Node()
    node.run(FULL)
    node.wait()
    canary = node.take()
    assert (node.state, node.admits()) == (HealthState.CANARY, False)
    node.claim(canary)
    assert (node.state, node.admits()) == (HealthState.HEALTHY, True)


def test_a_node_that_fails_after_each_claim_pauses_longer_each_time() -> None:
    node = Node()
    for pause_s in (10, 20, 40):
        vm = node.take()
        node.claim(vm)
        node.end(vm, FULL)
        assert node.wait() == pause_s


def test_a_vm_that_claims_and_ends_well_makes_the_next_pause_short_again() -> None:
    node = Node()
    node.run(FULL)
    node.wait()
    vm = node.take()
    node.claim(vm)
    node.end(vm, DONE)
    node.run(FULL)
    assert node.wait() == FIRST_PAUSE_S


def test_vms_that_fail_together_pause_the_node_once() -> None:
    node = Node()
    for vm in [node.take() for _ in range(5)]:
        node.end(vm, FULL)
    assert (node.health.faults, node.wait_s()) == (5, FIRST_PAUSE_S)


def test_an_image_source_that_is_away_makes_no_pause_longer() -> None:
    node = Node()
    for _ in range(5):
        node.run(AWAY)
        assert (node.health.faults, node.wait()) == (0, FIRST_PAUSE_S)
    node.run(FULL)
    assert node.wait() == FIRST_PAUSE_S


@pytest.mark.parametrize(
    "ending",
    [
        Ending(Verdict.NETWORK_CUT, "no way led to the broker", HealthCode.NETWORK_CUT),
        Ending(Verdict.VM_CRASHED, "QEMU was killed", HealthCode.QEMU_FAILED),
    ],
    ids=lambda ending: str(ending.verdict),
)
def test_what_may_be_anybodys_fault_pauses_the_node_and_never_for_longer(ending: Ending) -> None:
    node = Node()
    for _ in range(3):
        node.run(ending)
        assert (node.state, node.health.faults, node.wait()) == (HealthState.BACKING_OFF, 0, FIRST_PAUSE_S)


def test_a_pause_that_is_over_is_not_waited_for() -> None:
    node = Node()
    node.run(FULL)
    node.now_s += FIRST_PAUSE_S
    assert node.wait_s() == 0


def test_a_canary_whose_item_is_cancelled_has_shown_nothing_and_another_goes() -> None:
    node = Node()
    node.run(FULL)
    node.wait()
    node.run(CANCELLED)
    assert (node.state, node.admits()) == (HealthState.CANARY, True)


def test_three_vms_without_a_claim_take_the_node_out_if_their_machines_claimed_elsewhere() -> None:
    node = Node()
    for _ in range(NEVER_CLAIMS_LIMIT - 1):
        node.run(SILENT)
        assert node.state is HealthState.HEALTHY
    node.run(SILENT)
    assert (node.state, node.admits(), node.wait_s()) == (HealthState.EXCLUDED, False, EXCLUDED_PAUSE_S)
    told = node.health.told(node.now_s, datetime(2026, 1, 1, tzinfo=UTC))
    assert (told.code, told.since, told.retry_at) == (
        HealthCode.NEVER_CLAIMS,
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:30:00Z",
    )


def test_machines_that_never_claimed_anywhere_say_nothing_of_the_node() -> None:
    node = Node()
    for _ in range(NEVER_CLAIMS_LIMIT * 2):
        node.run(SILENT, machine_claimed=False)
    assert (node.state, node.health.faults) == (HealthState.HEALTHY, 0)


def test_a_claim_in_between_keeps_the_node_in() -> None:
    node = Node()
    for _ in range(NEVER_CLAIMS_LIMIT):
        node.run(SILENT)
        node.claim(node.take())
    assert node.state is HealthState.HEALTHY


def test_a_node_that_took_itself_out_tries_one_vm_each_half_hour_and_is_back_when_it_claims() -> None:
    node = Node()
    for _ in range(NEVER_CLAIMS_LIMIT):
        node.run(SILENT)
    for _ in range(2):
        assert node.wait() == EXCLUDED_PAUSE_S
        canary = node.take()
        assert (node.state, node.admits()) == (HealthState.EXCLUDED, False)
        node.end(canary, SILENT)
    node.wait()
    node.claim(node.take())
    assert (node.state, node.admits()) == (HealthState.HEALTHY, True)


def test_a_node_that_took_itself_out_tries_another_when_its_canarys_item_is_cancelled() -> None:
    node = Node()
    for _ in range(NEVER_CLAIMS_LIMIT):
        node.run(SILENT)
    node.wait()
    node.run(CANCELLED)
    assert (node.state, node.admits()) == (HealthState.EXCLUDED, True)


def test_three_canaries_without_a_claim_take_the_node_out_too() -> None:
    node = Node()
    node.run(FULL)
    for state in (HealthState.BACKING_OFF, HealthState.BACKING_OFF, HealthState.EXCLUDED):
        node.wait()
        node.run(SILENT)
        assert node.state is state


def test_a_drain_admits_nothing_more_and_tells_its_reason() -> None:
    node = Node()
    node.health.drained(Ending(Verdict.DRAINED, "the slot ends", HealthCode.SLOT_ENDS), node.now_s)
    told = node.health.told(node.now_s, datetime(2026, 1, 1, tzinfo=UTC))
    assert (node.admits(), told.state, told.sentence) == (False, HealthState.DRAINING, "the slot ends")


def test_every_code_and_state_is_decided_on() -> None:
    assert FAULTS.keys() == set(HealthCode)
    assert TRANSITIONS.keys() == set(HealthState)


@pytest.mark.parametrize("code", [code for code, fault in FAULTS.items() if fault is Fault.NONE])
def test_what_is_no_fault_makes_no_pause(code: HealthCode) -> None:
    node = Node()
    node.run(Ending(Verdict.DRAINED, "it ended", code))
    assert (node.state, node.admits()) == (HealthState.HEALTHY, True)

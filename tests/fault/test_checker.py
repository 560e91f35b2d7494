"""The checker is shown a small history in which nothing is wrong, and then the same with one fault planted in it."""

from typing import Any

import msgspec
import pytest

from broker.wire.events import EventType
from broker.wire.states import ItemState
from broker.wire.streams import Retry
from tests.fault.checker import check
from tests.fault.evidence import FaultKind, StreamEvidence
from tests.fault.history import REFUSED, Call
from tests.fault.planted import (
    DAY,
    ONE,
    STREAM,
    TWO,
    Plant,
    call,
    digest,
    event,
    good,
    planted,
    told,
    view,
    with_data,
    with_events,
    with_item,
    without,
)


def test_a_run_without_fault_has_none() -> None:
    assert check(good()) == []


def _pushed_item_missing(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return {"items": stream.items[:2], "counts": {"done": 1, "held": 1}}


def _pushed_item_with_other_content(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return with_item(stream, 3, params={"mark": "z"})


def _accepted_result_of_an_item_that_is_held(stream: StreamEvidence, calls: list[Call]) -> dict[str, Any]:
    calls.append(call("complete", 13.8, told(TWO, "d3", 1, digest=digest("2"))))
    return {}


def _result_that_no_guest_sent(stream: StreamEvidence, calls: list[Call]) -> dict[str, Any]:
    calls[:] = [each for each in calls if each.act != "complete"]
    return {}


def _result_that_is_not_listed(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return {"results": []}


def _accepted_failure_that_ended_nothing(_: StreamEvidence, calls: list[Call]) -> dict[str, Any]:
    calls.append(call("fail", 11, told(ONE, "d1", 1), {"state": "delayed"}))
    return {}


def _accepted_cancel_of_an_item_that_is_held(_: StreamEvidence, calls: list[Call]) -> dict[str, Any]:
    calls.append(call("cancel", 17, {"item": TWO}))
    return {}


def _cancel_refused_as_settled_of_an_item_that_is_held(_: StreamEvidence, calls: list[Call]) -> dict[str, Any]:
    calls.append(call("cancel", 17, {"item": TWO}, {"code": "settled"}, REFUSED))
    return {}


@pytest.mark.parametrize(
    "plant",
    [
        _pushed_item_missing,
        _pushed_item_with_other_content,
        _accepted_result_of_an_item_that_is_held,
        _result_that_no_guest_sent,
        _result_that_is_not_listed,
        _accepted_failure_that_ended_nothing,
        _accepted_cancel_of_an_item_that_is_held,
        _cancel_refused_as_settled_of_an_item_that_is_held,
    ],
)
def test_what_was_acknowledged_and_is_not_there_is_named_as_lost(plant: Plant) -> None:
    assert FaultKind.LOST in planted(plant)


def _push_answered_with_two_ranges(_: StreamEvidence, calls: list[Call]) -> dict[str, Any]:
    calls[1] = msgspec.structs.replace(calls[1], got={"first": 4, "last": 6, "repeated": 0})
    return {}


def _items_of_one_push_there_twice(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return {"items": [*stream.items, view(f"{STREAM}/4", ItemState.CANCELLED, "a")]}


def _numbers_pushed_twice(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return with_events(stream, lambda events: events.insert(2, events[1]))


def _two_completions_in_the_log(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return with_events(stream, lambda events: events.insert(11, events[10]))


def _phase_told_twice(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return with_events(stream, lambda events: events.insert(5, events[4]))


def _two_results_accepted(_: StreamEvidence, calls: list[Call]) -> dict[str, Any]:
    calls.append(call("complete", 14, told(ONE, "d1", 1, digest=digest("1"))))
    return {}


@pytest.mark.parametrize(
    "plant",
    [
        _push_answered_with_two_ranges,
        _items_of_one_push_there_twice,
        _numbers_pushed_twice,
        _two_completions_in_the_log,
        _phase_told_twice,
        _two_results_accepted,
    ],
)
def test_what_was_taken_twice_is_named_as_doubled(plant: Plant) -> None:
    assert FaultKind.DOUBLED in planted(plant)


def _dispatched_while_it_runs(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return without(stream, 6)


def _moved_by_another_dispatch(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return with_data(stream, 11, dispatch="d1", fence=1)


def _extended_after_the_next_was_given(_: StreamEvidence, calls: list[Call]) -> dict[str, Any]:
    calls[9] = call("extend", 11, told(ONE, "d1", 1), {"instruction": "continue"})
    return {}


@pytest.mark.parametrize(
    "plant", [_dispatched_while_it_runs, _moved_by_another_dispatch, _extended_after_the_next_was_given]
)
def test_two_who_have_one_item_are_named_as_overlap(plant: Plant) -> None:
    assert FaultKind.OVERLAP in planted(plant)


def _fence_that_does_not_grow(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return with_data(stream, 7, fence=1)


def _cancel_that_leaves_the_fence(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return with_data(stream, 13, fence=0)


def _two_dispatches_with_one_fence(_: StreamEvidence, calls: list[Call]) -> dict[str, Any]:
    calls[5:7] = [call("dispatch", 10, {"key": "y"}, told(ONE, "d2", 1))]
    return {}


def _one_dispatch_with_two_fences(_: StreamEvidence, calls: list[Call]) -> dict[str, Any]:
    calls[6] = call("dispatch", 10.2, {"key": "y"}, told(ONE, "d2", 3))
    return {}


@pytest.mark.parametrize(
    "plant",
    [
        _fence_that_does_not_grow,
        _cancel_that_leaves_the_fence,
        _two_dispatches_with_one_fence,
        _one_dispatch_with_two_fences,
    ],
)
def test_a_fence_that_tells_nobody_apart_is_named(plant: Plant) -> None:
    assert FaultKind.FENCE in planted(plant)


def _counts_that_are_not_the_items(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return {"counts": {"done": 2, "cancelled": 1}}


def _more_counted_than_was_pushed(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    more = view(f"{STREAM}/4", ItemState.CANCELLED, "d")
    return {"counts": {"done": 1, "held": 1, "cancelled": 2}, "items": [*stream.items, more]}


def _boots_that_no_event_tells_of(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return with_item(stream, 2, boots=2)


def _attempts_that_no_event_tells_of(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return with_item(stream, 1, attempts=1)


def _state_that_is_not_that_of_the_log(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return with_item(stream, 3, state=ItemState.HELD) | {"counts": {"done": 1, "held": 2}}


@pytest.mark.parametrize(
    "plant",
    [
        _counts_that_are_not_the_items,
        _more_counted_than_was_pushed,
        _boots_that_no_event_tells_of,
        _attempts_that_no_event_tells_of,
        _state_that_is_not_that_of_the_log,
    ],
)
def test_numbers_that_do_not_agree_are_named(plant: Plant) -> None:
    assert FaultKind.COUNTERS in planted(plant)


@pytest.mark.parametrize(("bounds", "item"), [(Retry(attempts=1, boots=1), ONE), (Retry(attempts=0, boots=2), TWO)])
def test_a_counter_past_its_bound_is_named(bounds: Retry, item: str) -> None:
    faults = check(msgspec.structs.replace(good(), retry=bounds))
    assert [(fault.kind, fault.subject) for fault in faults] == [(FaultKind.COUNTERS, item)]


def _gap_in_the_log(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return {"events": [each for each in stream.events if each.kind is not EventType.VM_CLAIMED]}


def _log_out_of_order(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return {"events": [*stream.events[:4], stream.events[5], stream.events[4], *stream.events[6:]]}


def _epoch_that_goes_back(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return {"events": [*stream.events[:-1], msgspec.structs.replace(stream.events[-1], id="6-13")]}


def _time_that_goes_back(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return {"events": [*stream.events[:-1], msgspec.structs.replace(stream.events[-1], time=f"{DAY}:00.000Z")]}


@pytest.mark.parametrize("plant", [_gap_in_the_log, _log_out_of_order, _epoch_that_goes_back, _time_that_goes_back])
def test_a_log_that_is_not_whole_and_in_order_is_named(plant: Plant) -> None:
    assert FaultKind.SEQUENCE in planted(plant)


def _claimed_without_a_dispatch(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return without(stream, 9)


def _went_on_after_it_was_done(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    again = event(17, EventType.ITEM_DISPATCHED, ONE, state="dispatched", dispatch="d9", fence=3, boots=3)
    return with_events(stream, lambda events: events.append(again))


def _came_from_where_it_was_not(stream: StreamEvidence, _: list[Call]) -> dict[str, Any]:
    return with_data(stream, 12, was="dispatched")


@pytest.mark.parametrize(
    "plant", [_claimed_without_a_dispatch, _went_on_after_it_was_done, _came_from_where_it_was_not]
)
def test_a_move_that_the_lifecycle_does_not_know_is_named(plant: Plant) -> None:
    assert FaultKind.LIFECYCLE in planted(plant)


def test_a_lease_that_ends_before_its_time_is_named() -> None:
    def plant(_: StreamEvidence, calls: list[Call]) -> dict[str, Any]:
        calls[4] = call("extend", 6.1, told(ONE, "d1", 1), {"instruction": "continue"})
        return {}

    assert planted(plant) == {FaultKind.EXPIRED_EARLY}


def test_an_item_that_is_not_settled_is_named() -> None:
    def plant(stream: StreamEvidence, calls: list[Call]) -> dict[str, Any]:
        calls[:] = [each for each in calls if each.act != "fail"]
        cut = without(stream, 12)
        return (
            cut
            | with_item(stream, 2, state=ItemState.RUNNING, attempts=0)
            | {"counts": {"done": 1, "running": 1, "cancelled": 1}}
        )

    assert planted(plant) == {FaultKind.UNSETTLED}


def test_a_key_that_should_not_be_in_the_store_is_named() -> None:
    faults = check(msgspec.structs.replace(good(), keys=["vmb:{s0}:x: not listed"]))
    assert [(fault.kind, fault.sentence) for fault in faults] == [(FaultKind.KEYS_LEFT, "vmb:{s0}:x: not listed")]

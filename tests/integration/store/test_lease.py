import asyncio
from dataclasses import replace

import msgspec
import pytest

from broker.domain.errors import Conflict
from broker.store import Lease
from broker.store.records import Hash
from broker.wire.names import ItemRef
from broker.wire.problems import ProblemCode
from broker.wire.states import ItemState, Verdict
from broker.wire.streams import Limits, Retry
from tests.integration.store.scene import RENDER, SPEC, Scene, failure, lease_of, result
from tests.support.stores import age


def _refusal(caught: pytest.ExceptionInfo[Conflict]) -> ProblemCode:
    return caught.value.code


async def test_claim_makes_the_item_the_vms(scene: Scene) -> None:
    await scene.push(1)
    claimed = await scene.claimed()
    assert ((await scene.item()).state, claimed.fence, claimed.deadline_in_ms) == (ItemState.RUNNING, 1, 120_000)
    leased = await scene.store.leased(lease_of(claimed))
    assert (leased.dispatch, str(leased.item.ref), leased.spec) == (claimed.dispatch, str(claimed.item.ref), SPEC)
    assert (await scene.events())[-2:] == ["item.claimed", "vm.claimed"]


async def test_same_claim_key_gets_the_same_answer_until_the_first_extend(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.prepared()
    first, again = await scene.claim(given), await scene.claim(given)
    assert (again.dispatch, again.item, again.fence) == (first.dispatch, first.item, first.fence)
    await scene.store.extend(lease_of(first), "")
    with pytest.raises(Conflict) as caught:
        await scene.claim(given)
    assert _refusal(caught) == ProblemCode.TICKET_SPENT
    assert (await scene.item()).state == ItemState.RUNNING


async def test_ticket_used_with_another_claim_key_is_an_alarm_and_nobody_keeps_the_item(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.prepared()
    thief = lease_of(await scene.claim(given, "thief"))
    with pytest.raises(Conflict, match="another claim key") as caught:
        await scene.claim(given, "guest")
    assert _refusal(caught) == ProblemCode.TICKET_REPLAYED
    with pytest.raises(Conflict) as lost:
        await scene.store.complete(thief, result())
    assert _refusal(lost) == ProblemCode.LEASE_LOST
    item = await scene.item()
    assert (item.state, item.attempts) == (ItemState.READY, 0)
    assert (await scene.events())[-2:] == ["ticket.replayed", "item.given_back"]
    with pytest.raises(Conflict) as spent:
        await scene.claim(given, "guest")
    assert _refusal(spent) == ProblemCode.TICKET_SPENT


async def test_spent_ticket_leaves_one_event_however_often_it_comes(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.prepared()
    await scene.store.complete(lease_of(await scene.claim(given)), result())
    for _ in range(3):
        with pytest.raises(Conflict):
            await scene.claim(given, "later")
    assert (await scene.events()).count("ticket.spent") == 1


async def test_extend_moves_the_deadline_but_never_past_the_run_limit(scene: Scene) -> None:
    await scene.set_up(msgspec.structs.replace(SPEC, limits=Limits(run_ms=150_000)), items=1)
    lease = await scene.running()
    assert (await scene.store.extend(lease, "10 %")).deadline_in_ms == 120_000
    await age(scene.store, 100_000)
    left_ms = (await scene.store.extend(lease, "90 %")).deadline_in_ms
    assert 40_000 < left_ms <= 50_000
    vm = (await scene.item()).vm
    assert vm is not None
    assert vm.facts["progress"] == "90 %"


async def test_result_is_accepted_once_and_the_same_again_is_answered_the_same(scene: Scene) -> None:
    await scene.push(1)
    lease = await scene.running()
    answers = await asyncio.gather(*(scene.store.complete(lease, result()) for _ in range(3)))
    assert [answer.state for answer in answers] == ["done"] * 3
    item = await scene.item()
    assert item.state == ItemState.DONE
    assert [output.name for output in item.outputs] == ["out.png"]
    assert item.exit_code == 0
    assert (await scene.events()).count("item.completed") == 1
    assert await scene.numbers(ItemState.DONE) == [1]


async def test_another_result_by_the_same_lease_is_refused(scene: Scene) -> None:
    await scene.push(1)
    lease = await scene.running()
    await scene.store.complete(lease, result("1"))
    with pytest.raises(Conflict) as caught:
        await scene.store.complete(lease, result("2"))
    assert _refusal(caught) == ProblemCode.RESULT_DIFFERS


async def test_zombie_with_the_very_same_result_has_not_won(scene: Scene) -> None:
    await scene.push(1)
    zombie = await scene.running()
    await age(scene.store, 121_000)
    await scene.hear()
    await scene.store.tick()
    await age(scene.store, 31_000)
    await scene.store.tick()
    heir = await scene.running()
    for call in (scene.store.complete(zombie, result()), scene.store.fail(zombie, failure())):
        with pytest.raises(Conflict) as caught:
            await call
        assert _refusal(caught) == ProblemCode.LEASE_LOST
    assert (await scene.store.complete(heir, result())).state == "done"
    with pytest.raises(Conflict):
        await scene.store.complete(zombie, result())


async def test_expired_item_that_nobody_was_given_since_is_settled_late(scene: Scene) -> None:
    await scene.push(2)
    lease = await scene.running()
    await age(scene.store, 121_000)
    await scene.store.tick()
    assert (await scene.item()).state == ItemState.READY
    assert (await scene.store.complete(lease, result())).state == "done"
    assert (await scene.store.complete(lease, result())).state == "done"
    assert await scene.counts() == {"ready": 1, "done": 1}
    # Its stale entry in the ready list gives nothing out.
    assert str((await scene.dispatched()).item.ref) == f"{RENDER}/2"
    assert await scene.offer() is None


async def test_failed_attempt_is_delayed_and_its_repetition_answered_the_same(scene: Scene) -> None:
    await scene.push(1)
    lease = await scene.running()
    answers = [await scene.store.fail(lease, failure()) for _ in range(2)]
    assert [answer.state for answer in answers] == ["delayed", "delayed"]
    item = await scene.item()
    assert (item.attempts, item.exit_code) == (1, 3)
    assert item.reason is not None
    assert item.reason.sentence == "the program exited with 3"


async def test_concurrent_repetitions_of_one_failure_count_one_attempt(scene: Scene) -> None:
    await scene.push(1)
    lease = await scene.running()
    await asyncio.gather(*(scene.store.fail(lease, failure()) for _ in range(4)))
    assert (await scene.item()).attempts == 1


async def test_last_attempt_is_held_with_the_guests_own_sentence(scene: Scene) -> None:
    await scene.set_up(msgspec.structs.replace(SPEC, retry=Retry(attempts=1)), items=1)
    assert (await scene.store.fail(await scene.running(), failure())).state == "held"
    item = await scene.item()
    assert item.reason is not None
    assert (item.reason.code, item.reason.sentence) == (
        "program_failed",
        "the program exited with 3; no attempt is left",
    )
    assert (await scene.events())[-1] == "item.held"


async def test_exit_status_75_gives_back_without_counting_an_attempt(scene: Scene) -> None:
    await scene.push(1)
    lease = await scene.running()
    answers = [await scene.store.fail(lease, failure(75)) for _ in range(2)]
    assert [answer.state for answer in answers] == ["ready", "ready"]
    assert (await scene.item()).attempts == 0


async def test_lease_that_lasted_counts_give_backs_anew(scene: Scene) -> None:
    await scene.push(1)
    states = []
    for _ in range(3):
        lease = await scene.running()
        await scene.store.extend(lease, "")
        states.append((await scene.store.fail(lease, failure(75))).state)
    assert states == ["ready"] * 3


async def test_lease_with_another_fence_is_nobodys(scene: Scene) -> None:
    await scene.push(1)
    lease = await scene.running()

    async def are_refused(*edited: Lease) -> None:
        for each in edited:
            for call in (
                scene.store.leased(each, or_late=True),
                scene.store.extend(each, ""),
                scene.store.complete(each, result()),
                scene.store.fail(each, failure()),
            ):
                with pytest.raises(Conflict) as caught:
                    await call
                assert _refusal(caught) == ProblemCode.LEASE_LOST

    edited = [replace(lease, fence=fence) for fence in (2, 999_999_999_999_999)]
    await are_refused(*edited)
    assert (await scene.store.leased(lease)).fence == 1
    await scene.store.fail(lease, failure())
    await are_refused(*edited)
    assert (await scene.store.fail(lease, failure())).state == "delayed"


async def test_completion_repeated_with_another_fence_is_nobodys(scene: Scene) -> None:
    await scene.push(1)
    lease = await scene.running()
    await scene.store.complete(lease, result())
    with pytest.raises(Conflict) as caught:
        await scene.store.complete(replace(lease, fence=2), result())
    assert _refusal(caught) == ProblemCode.LEASE_LOST


async def test_lease_is_the_last_until_the_item_is_given_to_somebody_else(scene: Scene) -> None:
    await scene.push(1)
    lease = await scene.running()
    await scene.store.fail(lease, failure(75))
    assert await scene.store.is_last(lease)
    await scene.dispatched()
    assert not await scene.store.is_last(lease)


async def test_lease_that_is_over_is_told_so(scene: Scene) -> None:
    await scene.push(1)
    lease = await scene.running()
    await scene.store.fail(lease, failure())
    for call in (scene.store.extend(lease, ""), scene.store.leased(lease), scene.store.complete(lease, result())):
        with pytest.raises(Conflict) as caught:
            await call
        assert _refusal(caught) == ProblemCode.LEASE_LOST


async def test_late_result_makes_good_what_was_said_of_its_vm(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.prepared()
    lease = lease_of(await scene.claim(given))
    await age(scene.store, 121_000)
    await scene.hear()
    await scene.store.tick()
    assert (await scene.end(given, Verdict.STOPPED_EARLY)).verdict == Verdict.GUEST_LOST

    await scene.store.complete(lease, result())

    vm = (await scene.item()).vm
    assert vm is not None
    assert (vm.verdict, vm.sentence) == (Verdict.COMPLETED, "its result came late, and was accepted")
    assert (await scene.end(given, Verdict.GUEST_LOST)).verdict == Verdict.COMPLETED


async def test_verdict_is_decided_anew_when_the_vm_was_over_otherwise(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.push(1)
    given = await scene.prepared()
    lease = lease_of(await scene.claim(given))
    await age(scene.store, 121_000)
    await scene.hear()
    await scene.store.tick()
    read, calls = scene.store._item, 0

    async def completed_after_the_read(ref: ItemRef) -> Hash:
        nonlocal calls
        item, calls = await read(ref), calls + 1
        if calls == 1:
            await scene.store.complete(lease, result())
        return item

    monkeypatch.setattr(scene.store, "_item", completed_after_the_read)

    assert (await scene.end(given, Verdict.STOPPED_EARLY)).verdict == Verdict.COMPLETED
    assert calls == 2

import asyncio

import msgspec
import pytest

from broker.domain.errors import Rejected
from broker.wire.names import StreamRef, UserName
from broker.wire.problems import ProblemCode
from broker.wire.states import Accelerator, Instruction, ItemState, Phase, Verdict
from broker.wire.streams import Needs, Retry
from tests.integration.store.scene import RENDER, ROOM, SPEC, Scene, failure, lease_of, result
from tests.support.stores import age


async def test_item_goes_to_one_launcher_with_its_machine_and_size(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.dispatched()
    item = await scene.item()
    assert (item.state, item.boots, given.fence) == (ItemState.DISPATCHED, 1, 1)
    assert (given.machine.machine, given.machine.revision) == ("alice/deb12", 1)
    assert (given.size.vcpus, given.size.memory_mib, given.boot_ms) == (1, 1_024, 300_000)
    assert await scene.offer() is None
    assert await scene.counts() == {"dispatched": 1}


async def test_concurrent_offers_never_get_the_same_item(scene: Scene) -> None:
    await scene.prove()
    await scene.push(20)
    given = await asyncio.gather(*(scene.offer() for _ in range(25)))
    items = [str(each.item.ref) for each in given if each is not None]
    assert len(items) == len(set(items)) == 20


async def test_repeated_dispatch_key_gets_the_same_dispatch(scene: Scene) -> None:
    await scene.push(2)
    first, again = await scene.offer(key="same"), await scene.offer(key="same")
    assert first is not None
    assert again is not None
    assert (again.dispatch, str(again.item.ref), again.fence, again.repeated) == (
        first.dispatch,
        str(first.item.ref),
        1,
        True,
    )
    assert await scene.counts() == {"ready": 1, "dispatched": 1}


async def test_concurrent_offers_with_one_key_take_one_item(scene: Scene) -> None:
    await scene.push(5)
    given = await asyncio.gather(*(scene.offer(key="same") for _ in range(5)))
    assert len({each.dispatch for each in given if each is not None}) == 1
    assert await scene.counts() == {"ready": 4, "dispatched": 1}


async def test_item_waits_for_room_that_meets_its_needs(scene: Scene) -> None:
    await scene.set_up(msgspec.structs.replace(SPEC, needs=Needs(vcpus=8)), items=1)
    assert await scene.offer() is None
    given = await scene.offer(room=msgspec.structs.replace(ROOM, vcpus=8))
    assert given is not None
    assert given.size.vcpus == 8


async def test_stream_that_does_not_fit_lets_others_by(scene: Scene) -> None:
    await scene.set_up(msgspec.structs.replace(SPEC, needs=Needs(accelerator=Accelerator.TCG)), items=1)
    other = StreamRef(RENDER.user, "other")
    await scene.set_up(items=1, ref=other)
    assert str((await scene.dispatched()).item.ref) == f"{other}/1"


async def test_users_whom_the_launcher_does_not_serve_are_passed_over(scene: Scene) -> None:
    await scene.push(1)
    bobs = StreamRef(UserName("bob"), "mc")
    await scene.set_up(items=1, ref=bobs)
    given = await scene.offer(serves=frozenset({"bob"}))
    assert given is not None
    assert str(given.item.ref) == f"{bobs}/1"
    assert await scene.offer(serves=frozenset({"bob"})) is None


async def test_users_take_turns_and_so_do_a_users_streams(scene: Scene) -> None:
    second, bobs = StreamRef(RENDER.user, "second"), StreamRef(UserName("bob"), "mc")
    await scene.push(20)
    await scene.set_up(items=20, ref=second)
    await scene.set_up(items=20, ref=bobs)
    for ref in (RENDER, second, bobs):
        await scene.prove(ref)
    given = [str((await scene.dispatched()).item.ref.stream) for _ in range(16)]
    shares = {name: given.count(name) for name in set(given)}
    assert shares == {str(RENDER): 4, str(second): 4, str(bobs): 8}


async def test_bigger_vms_come_as_much_more_seldom(scene: Scene) -> None:
    bobs = StreamRef(UserName("bob"), "mc")
    await scene.push(20)
    await scene.set_up(msgspec.structs.replace(SPEC, needs=Needs(vcpus=4)), items=20, ref=bobs)
    for ref in (RENDER, bobs):
        await scene.prove(ref)
    given = [str((await scene.dispatched()).item.ref.stream) for _ in range(15)]
    assert given.count(str(bobs)) == 3


async def test_who_comes_late_starts_at_the_present_and_does_not_catch_up(scene: Scene) -> None:
    bobs = StreamRef(UserName("bob"), "mc")
    await scene.push(20)
    await scene.prove()
    for _ in range(10):
        await scene.dispatched()
    await scene.set_up(items=10, ref=bobs)
    await scene.prove(bobs)
    given = [str((await scene.dispatched()).item.ref.stream) for _ in range(8)]
    assert 4 <= given.count(str(bobs)) <= 5


async def test_phases_are_recorded_once_each_with_their_facts(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.dispatched()
    for phase in (Phase.PREPARING, Phase.PREPARING, Phase.BOOTING):
        told = await scene.store.vm_event(given.dispatch, scene.launcher, phase, {"image": "cached"})
        assert told == Instruction.CONTINUE
    vm = (await scene.item()).vm
    assert vm is not None
    assert list(vm.phases) == [Phase.PREPARING, Phase.BOOTING]
    assert vm.facts == {"image": "cached"}
    assert (await scene.events())[-2:] == ["vm.preparing", "vm.booting"]


async def test_vm_of_another_launcher_is_not_there(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.dispatched()
    with pytest.raises(Rejected) as caught:
        await scene.store.extend_dispatch(given.dispatch, "somebody.else")
    assert caught.value.code == ProblemCode.NOT_FOUND


async def test_end_is_told_with_its_verdict_only(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.dispatched()
    with pytest.raises(Rejected, match="verdict"):
        await scene.store.vm_event(given.dispatch, scene.launcher, Phase.ENDED, {})


@pytest.mark.parametrize("verdict", [Verdict.HOST_ERROR, Verdict.IMAGE_ERROR, Verdict.VM_CRASHED])
async def test_failed_boot_costs_no_attempt_and_comes_again_first(scene: Scene, verdict: Verdict) -> None:
    await scene.push(2)
    ended = await scene.end(await scene.dispatched(), verdict, "libvirt did not start")
    assert (ended.verdict, ended.state) == (verdict, "ready")
    item = await scene.item()
    assert (item.attempts, item.boots) == (0, 1)
    assert item.reason is not None
    assert (item.reason.code, item.reason.sentence) == (verdict.value, "libvirt did not start")
    assert item.vm is not None
    assert (item.vm.verdict, item.vm.has_console) == (verdict, True)
    assert str((await scene.dispatched()).item.ref) == item.item


async def test_second_give_back_in_a_row_waits(scene: Scene) -> None:
    await scene.push(1)
    states = [(await scene.end(await scene.dispatched(), Verdict.HOST_ERROR)).state for _ in range(2)]
    assert states == ["ready", "delayed"]
    item = await scene.item()
    assert item.not_before is not None
    assert await scene.numbers(ItemState.DELAYED) == [1]


async def test_item_that_never_boots_is_held_at_its_bound(scene: Scene) -> None:
    await scene.set_up(msgspec.structs.replace(SPEC, retry=Retry(boots=2)), items=1)
    for _ in range(2):
        await scene.end(await scene.dispatched(), Verdict.IMAGE_ERROR, "the digest does not match")
    item = await scene.item()
    assert item.state == ItemState.HELD
    assert item.reason is not None
    assert item.reason.code == "boots_exhausted"
    assert item.reason.sentence == "booted 2 of 2 times without a result; the last: the digest does not match"
    assert item.settled_at is not None
    assert await scene.numbers(ItemState.HELD) == [1]


async def test_crash_of_a_running_vm_counts_an_attempt(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.prepared()
    await scene.claim(given)
    assert (await scene.end(given, Verdict.VM_CRASHED)).state == "delayed"
    assert (await scene.item()).attempts == 1


async def test_drain_of_a_running_vm_counts_none(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.prepared()
    await scene.claim(given)
    assert (await scene.end(given, Verdict.DRAINED)).state == "ready"
    assert (await scene.item()).attempts == 0


async def test_first_verdict_stands(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.dispatched()
    first = await scene.end(given, Verdict.HOST_ERROR)
    again = await scene.end(given, Verdict.VM_CRASHED)
    assert again == first
    assert (await scene.events()).count("vm.ended") == 1


async def test_completed_stands_after_an_accepted_completion(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.prepared()
    await scene.store.complete(lease_of(await scene.claim(given)), result())
    ended = await scene.end(given, Verdict.COMPLETED)
    assert (ended.verdict, ended.state) == (Verdict.COMPLETED, "done")


async def test_completed_without_a_completion_is_not_believed(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.prepared()
    await scene.claim(given)
    ended = await scene.end(given, Verdict.COMPLETED)
    assert (ended.verdict, ended.state) == (Verdict.STOPPED_EARLY, "delayed")
    item = await scene.item()
    assert item.reason is not None
    assert item.reason.sentence == "the vm ended as completed, but no result of it was accepted"


async def test_end_of_a_vm_that_lost_its_item_changes_only_its_own_record(scene: Scene) -> None:
    await scene.push(1)
    old = await scene.dispatched()
    await age(scene.store, 16_000)
    await scene.store.tick()
    new = await scene.dispatched()
    assert (await scene.store.extend_dispatch(old.dispatch, scene.launcher)).instruction == Instruction.SUPERSEDED
    ended = await scene.end(old, Verdict.COMPLETED)
    assert (ended.verdict, ended.state) == (Verdict.SUPERSEDED, "dispatched")
    item = await scene.item()
    assert item.vm is not None
    assert (item.vm.dispatch, item.vm.verdict) == (new.dispatch, None)


async def test_vm_whose_guest_said_its_last_word_is_left_to_power_off_for_a_grace(scene: Scene) -> None:
    await scene.push(1)
    given = await scene.prepared()
    await scene.store.fail(lease_of(await scene.claim(given)), failure())
    soon = await scene.store.extend_dispatch(given.dispatch, scene.launcher)
    await age(scene.store, 61_000)
    late = await scene.store.extend_dispatch(given.dispatch, scene.launcher)
    assert (soon.instruction, soon.state) == (Instruction.CONTINUE, "over")
    assert (late.instruction, late.state) == (Instruction.SUPERSEDED, "over")

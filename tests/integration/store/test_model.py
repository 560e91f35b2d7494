"""Any acts in any order, by honest, late, repeating and lying parties: the store does what the model says.

A seeded walk and not Hypothesis: the store's time and its spread of pauses go into each run, so that a shrunk example
would not be the same one. A failure names its seed and shows the steps that led there.
"""

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import pytest

from broker.domain import deadlines
from broker.domain.errors import Conflict
from broker.domain.lifecycle import Act, act_of, standing_verdict
from broker.store import Lease, Store
from broker.wire.names import ItemRef, parse_item
from broker.wire.problems import ProblemCode
from broker.wire.states import SETTLED, Instruction, ItemState, Phase, Verdict
from broker.wire.streams import Needs, Retry
from tests.integration.store.model import SLACK_MS, Boot, Item, Model
from tests.integration.store.scene import RENDER, ROOM, SPEC, Scene, failure, lease_of, result, secret
from tests.support.stores import age

RETRY = Retry(attempts=3, boots=5, hold_exit_codes=(2,), backoff_first_ms=60_000, backoff_max_ms=120_000)
UNSETTLED = set(ItemState) - SETTLED
LARGE_ROOM = msgspec.structs.replace(ROOM, vcpus=2 * ROOM.vcpus)
MAX_UNSETTLED = 4
STEPS = 120
T = TypeVar("T")


class Walk:
    """One stream's items in a real store beside the model of them."""

    def __init__(self, store: Store, seed: int) -> None:
        self.chance = random.Random(seed)
        self.model = Model(RETRY)
        self.store = store
        self.scene = Scene(store)
        self.steps: list[str] = []
        self.machines = 1

    async def set_up(self) -> None:
        await self.scene.set_up(msgspec.structs.replace(SPEC, retry=RETRY))
        await self.store.tick()

    async def step(self) -> None:
        """Do one act that is possible now, then compare everything."""
        if self.chance.random() < 0.05:
            await self.change_machine()
        if self.chance.random() < 0.1:
            await self.change_spec()
        if self.model.items and self.chance.random() < 0.15:
            await self.chance.choice([self.cancel, self.hold, self.release])()
        possible: list[Callable[[], Awaitable[object]]] = [
            self.dispatch,
            self.run_next,
            self.run_next,
            self.let_time_pass,
        ]
        if len(self.model.numbers(UNSETTLED)) < MAX_UNSETTLED:
            possible.append(self.push)
        if self.model.boots:
            possible += [self.repeat_dispatch, self.report, self.attend, self.claim, self.end]
        if self.leases():
            possible += [self.extend, self.complete, self.fail, self.fail]
        act = self.chance.choice(possible)
        self.steps.append(getattr(act, "__name__", "act"))
        await act()
        await self.check()

    async def refused(self, call: Awaitable[T]) -> T | ProblemCode:
        """Return what the call returned, or the code with which it was refused."""
        try:
            return await call
        except Conflict as conflict:
            return conflict.code

    def pick(self, boots: list[Boot]) -> Boot:
        """Return one that is still its item's as often as any: zombies need living ones before them."""
        live = [boot for boot in boots if self.is_own(boot)]
        boot = self.chance.choice(live if live and self.chance.random() < 0.5 else boots)
        self.steps[-1] += f" {self.model.boots.index(boot)}"
        return boot

    async def change_machine(self) -> None:
        """Give the machine its next revision: what is dispatched from now on has to prove it anew."""
        self.machines += 1
        self.steps.append("change_machine")
        await self.scene.set_machine(f"<domain type='kvm'><!-- {self.machines} --></domain>")
        self.model.change_machine()

    async def change_spec(self) -> None:
        """Give the stream its next revision: small enough for every room, or for the large one only."""
        vcpus = self.chance.choice([1, ROOM.vcpus + 1])
        self.steps.append("change_spec")
        run = f"/opt/app/{len(self.model.vcpus)}"
        await self.scene.set_up(msgspec.structs.replace(SPEC, retry=RETRY, run=run, needs=Needs(vcpus=vcpus)))
        self.model.change_spec(vcpus)

    async def cancel(self) -> None:
        """Cancel any item; an unsettled or held one is stopped at once, whoever has it."""
        number = self.chance.choice(sorted(self.model.items))
        self.steps.append(f"cancel {number}")
        answer = await self.refused(self.store.cancel(ItemRef(RENDER, number), "alice"))
        if self.model.items[number].state is ItemState.DONE:
            assert answer == ProblemCode.SETTLED
        else:
            assert not isinstance(answer, ProblemCode)
            if self.model.items[number].state is not ItemState.CANCELLED:
                self.model.cancel(self.model.items[number])

    async def hold(self) -> None:
        """Hold any item: a ready or delayed one is set aside, of the others nothing changes."""
        number = self.chance.choice(sorted(self.model.items))
        self.steps.append(f"hold {number}")
        item = self.model.items[number]
        answer = await self.refused(self.store.hold(ItemRef(RENDER, number), "alice"))
        match item.state:
            case ItemState.READY | ItemState.DELAYED:
                self.model.hold(item)
            case ItemState.DISPATCHED | ItemState.RUNNING:
                assert answer == ProblemCode.GIVEN_OUT
            case ItemState.DONE | ItemState.CANCELLED:
                assert answer == ProblemCode.SETTLED

    async def release(self) -> None:
        """Release any item, a held one as often as any."""
        held = sorted(self.model.numbers({ItemState.HELD}))
        number = self.chance.choice(held or sorted(self.model.items))
        self.steps.append(f"release {number}")
        item = self.model.items[number]
        answer = await self.refused(self.store.release(ItemRef(RENDER, number)))
        match item.state:
            case ItemState.HELD:
                self.model.release(item)
            case ItemState.DONE | ItemState.CANCELLED:
                assert answer == ProblemCode.SETTLED

    async def push(self) -> None:
        pushed = await self.scene.push(self.chance.randint(1, 2))
        self.model.push(pushed.first, pushed.last)

    async def dispatch(self) -> Boot | None:
        key = f"walk-{len(self.steps)}"
        room = self.chance.choice([ROOM, LARGE_ROOM])
        may_go = self.model.may_go(room.vcpus)
        given = await self.scene.offer(room, key=key)
        self.model.heard_ms = self.model.now_ms
        if given is None:
            assert not may_go
            return None
        number = given.item.ref.number
        assert number in may_go
        assert given.item.revision == self.model.items[number].revision
        boot = self.model.dispatch(given, number, key)
        assert (given.fence, given.repeated) == (self.model.items[number].fence, False)
        return boot

    async def run_next(self) -> None:
        """Bring the next item to where most races are."""
        if (boot := await self.dispatch()) is not None:
            await self.report(boot, Phase.PREPARING)
            await self.claim(boot, "guest")

    async def repeat_dispatch(self) -> None:
        boot = self.pick(self.model.boots)
        again = await self.scene.offer(key=boot.key)
        self.model.heard_ms = self.model.now_ms
        assert again is not None
        assert (again.dispatch, again.fence, again.repeated) == (boot.given.dispatch, boot.given.fence, True)

    async def report(self, boot: Boot | None = None, phase: Phase | None = None) -> None:
        boot = boot or self.pick(self.model.boots)
        phase = phase or self.chance.choice([Phase.PREPARING, Phase.BOOTING, Phase.STARTED])
        told = await self.store.vm_event(boot.given.dispatch, self.scene.launcher, phase, {})
        assert (told == Instruction.CONTINUE) == (self.is_own(boot) or self.model.is_closing(boot))
        bound_ms = deadlines.PREPARE_MS if phase == Phase.PREPARING else 300_000 + deadlines.DEFAULT.launcher_grace_ms
        begins = phase not in boot.phases and phase != Phase.STARTED
        boot.phases.add(phase)
        is_unbound = self.model.items[boot.item].bound_ms is None
        self.model.attend(boot, bound_ms if begins or is_unbound else None)

    async def attend(self) -> None:
        boot = self.pick(self.model.boots)
        told = await self.store.extend_dispatch(boot.given.dispatch, self.scene.launcher)
        self.model.attend(boot, None)
        if self.is_own(boot):
            assert (told.instruction, told.state) == (Instruction.CONTINUE, self.model.items[boot.item].state)
        else:
            assert told.state == "over"
            assert (told.instruction == Instruction.CONTINUE) == self.model.is_closing(boot)
            assert (told.instruction == Instruction.CANCEL) == (boot.over == Act.CANCEL)

    async def claim(self, boot: Boot | None = None, claim_key: str | None = None) -> None:
        boot = boot or self.pick(self.model.boots)
        claim_key = claim_key or self.chance.choice(["guest", "guest", "thief"])
        answer = await self.refused(self.scene.claim(boot.given, claim_key))
        if not self.is_own(boot):
            assert answer == ProblemCode.TICKET_SPENT
        elif self.model.items[boot.item].state == ItemState.DISPATCHED:
            assert not isinstance(answer, ProblemCode)
            boot.claim_key = claim_key
            self.model.claim(boot, lease_of(answer))
        elif boot.claim_key != claim_key:
            assert answer == ProblemCode.TICKET_REPLAYED
            self.model.give_back(Act.GIVE_BACK, boot)
        elif boot.is_extended:
            assert answer == ProblemCode.TICKET_SPENT
        else:
            assert not isinstance(answer, ProblemCode)
            assert lease_of(answer) == boot.lease

    async def extend(self) -> None:
        boot, lease = self.pick_lease()
        answer = await self.refused(self.store.extend(lease, "going on"))
        if self.is_own(boot):
            self.model.extend(boot)
            assert not isinstance(answer, ProblemCode)
            assert answer.instruction == Instruction.CONTINUE
        elif boot.over == Act.CANCEL:
            assert not isinstance(answer, ProblemCode)
            assert answer.instruction == Instruction.CANCEL
        else:
            assert answer == ProblemCode.LEASE_LOST

    async def complete(self) -> None:
        boot, lease = self.pick_lease()
        content = self.chance.choice(["1", "1", "2"])
        answer = await self.refused(self.store.complete(lease, result(content)))
        state = self.model.items[boot.item].state
        is_late = boot.may_settle_late and state in {ItemState.READY, ItemState.DELAYED}
        if self.is_own(boot) or is_late:
            self.model.complete(boot, content)
        elif boot.closed is None or boot.closed[0] != "complete":
            assert answer == ProblemCode.LEASE_LOST
            return
        assert (answer == ProblemCode.RESULT_DIFFERS) == (boot.result != content)

    async def fail(self) -> None:
        boot, lease = self.pick_lease()
        code = self.chance.choice([1, 2, 75, 75])
        answer = await self.refused(self.store.fail(lease, failure(code)))
        if self.is_own(boot):
            if code == 75:
                self.model.close(boot, "give_back", self.model.give_back(Act.GIVE_BACK, boot))
            else:
                self.model.close(boot, "fail", self.model.fail(Act.FAIL, boot, is_hold_code=code == 2))
        is_last = self.model.items[boot.item].last_lease is boot
        if is_last and boot.closed is not None and boot.closed[0] != "complete":
            assert not isinstance(answer, ProblemCode)
            assert answer.state == boot.closed[1]
        else:
            assert answer == ProblemCode.LEASE_LOST

    async def end(self) -> None:
        boot, verdict = self.pick(self.model.boots), self.chance.choice(list(Verdict))
        ended = await self.scene.end(boot.given, verdict)
        item = self.model.items[boot.item]
        if boot.verdict is None:
            self.model.heard_ms = self.model.now_ms
            boot.verdict = standing_verdict(verdict, is_own=self.is_own(boot), over=boot.over, code=boot.over_code)
            match act_of(boot.verdict, item.state) if self.is_own(boot) else None:
                case Act.FAIL:
                    self.model.fail(Act.END, boot)
                case Act.GIVE_BACK:
                    self.model.give_back(Act.END, boot)
        assert (ended.verdict, ended.state) == (boot.verdict, item.state)
        assert ended.machine_claimed == (self.model.proven.get(item.revision, 0) >= boot.given.machine.revision)

    async def let_time_pass(self) -> None:
        passed_ms = self.chance.choice([26_000, 26_000, 45_000, 130_000])
        await age(self.store, passed_ms)
        self.model.now_ms += passed_ms
        await self.store.tick()
        for number, item in self.model.items.items():
            has_moved = (await self.scene.item(number)).state != item.state
            if item.current is not None and self.is_past(item.deadline_ms, has_moved=has_moved):
                self.model.expire(item)
            elif item.state == ItemState.DELAYED and self.is_due(item, has_moved=has_moved):
                self.model.promote(item)

    async def check(self) -> None:
        """Compare states, counters, counts, listings and deadlines of all items with the model's."""
        items = self.model.items
        assert await self.scene.counts() == self.model.counts()
        views = (await self.store.list_items(RENDER, None, None, 1_000)).items
        shown = [(view.state, view.attempts, view.boots) for view in views]
        assert shown == [(item.state, item.attempts, item.boots) for _, item in sorted(items.items())]
        for state in ItemState:
            assert set(await self.scene.numbers(state)) == self.model.numbers({state})
        given = {ItemState.DISPATCHED, ItemState.RUNNING}
        assert await self.dated(self.store._keys.deadlines) == self.model.numbers(given)
        assert await self.dated(self.store._keys.due) == self.model.numbers({ItemState.DELAYED})
        await self.check_ready()

    async def check_ready(self) -> None:
        """Every ready item is in its revision's list, each list is in order, and known by the place of its first."""
        keys, server = self.store._keys.of_stream(RENDER), self.store._server
        known = await server.command("ZRANGE", keys.ready, 0, -1, "WITHSCORES")
        listed: set[tuple[int, int]] = set()
        for revision, first in zip(known[::2], known[1::2], strict=True):
            entries = await server.command("LRANGE", f"{keys.ready_of}{revision}", 0, -1)
            numbers, _, places = zip(*((int(part) for part in entry.split(":")) for entry in entries), strict=True)
            assert list(places) == sorted(set(places))
            assert places[0] == int(first)
            listed |= {(number, int(revision)) for number in numbers}
        assert listed >= {
            (number, item.revision) for number, item in self.model.items.items() if item.state == ItemState.READY
        }

    async def check_events(self) -> None:
        """Every accepted completion left exactly one event, and the log has no gap."""
        events = (await self.store.read_events(RENDER, None, 1_000)).events
        assert [int(event.sequence) for event in events] == list(range(1, len(events) + 1))
        completed = [event.subject for event in events if event.kind.value == "item.completed"]
        assert len(completed) == len(set(completed)) == self.model.counts().get("done", 0)

    async def dated(self, key: str) -> set[int]:
        names = await self.store._server.command("ZRANGE", key, 0, -1)
        return {parse_item(name, None).number for name in names}

    def leases(self) -> list[Boot]:
        return [boot for boot in self.model.boots if boot.lease is not None]

    def pick_lease(self) -> tuple[Boot, Lease]:
        boot = self.pick(self.leases())
        assert boot.lease is not None
        assert boot.lease.nonce_hash == secret(boot.given.dispatch)
        return boot, boot.lease

    def is_own(self, boot: Boot) -> bool:
        return self.model.items[boot.item].current is boot

    def is_past(self, deadline_ms: int, *, has_moved: bool) -> bool:
        return has_moved if self.model.is_near(deadline_ms) else self.model.now_ms >= deadline_ms

    def is_due(self, item: Item, *, has_moved: bool) -> bool:
        earliest, latest = item.due_ms
        is_open = earliest - SLACK_MS < self.model.now_ms < latest
        return has_moved if is_open else self.model.now_ms >= latest


@pytest.mark.parametrize("seed", range(8))
async def test_store_does_what_the_model_says(store: Store, seed: int) -> None:
    walk = Walk(store, seed)
    await walk.set_up()
    try:
        for _ in range(STEPS):
            await walk.step()
        await walk.check_events()
    except BaseException as error:
        error.add_note(f"after {', '.join(walk.steps)}")
        raise

"""A small model of items' lives: what the store must show after any acts in any order, by the domain's table.

It knows no retry policy of its own but the bounds, and no clock but the time that the test let pass. Where a deadline
is so near that the test's own running time could decide, it takes over what the store says and checks that it may.
"""

from dataclasses import dataclass, field

from broker.domain import deadlines
from broker.domain.canary import CANARIES
from broker.domain.lifecycle import ACTS, Act, OverCode
from broker.store import Dispatched, Lease
from broker.wire.states import ItemState, Phase, Verdict
from broker.wire.streams import Retry

SLACK_MS = 2_500
"""The test's own running time, at most: it takes away from what is left until a deadline."""


@dataclass
class Boot:
    """One dispatch, as its launcher and guest know it."""

    given: Dispatched
    item: int
    key: str
    lease: Lease | None = None
    claim_key: str = ""
    verdict: Verdict | None = None
    closed: tuple[str, str] | None = None
    """By which word of the guest it ended, and the state that this led to."""
    closed_ms: int = 0
    over: str | None = None
    """By which act the item left it, whoever acted, and the code of why."""
    over_code: str | None = None
    result: str | None = None
    is_extended: bool = False
    may_settle_late: bool = False
    phases: set[Phase] = field(default_factory=set)


@dataclass
class Item:
    revision: int = 1
    state: ItemState = ItemState.READY
    attempts: int = 0
    boots: int = 0
    fence: int = 0
    given_back: int = 0
    current: Boot | None = None
    last: Boot | None = None
    last_lease: Boot | None = None
    """The last one whose lease ended: the one whose word may be repeated."""
    deadline_ms: int = 0
    bound_ms: int | None = None
    due_ms: tuple[int, int] = (0, 0)
    """When delayed: the earliest and the latest time at which it becomes ready."""


class Model:
    """The items, the boots and the time; each act here is what the store's act of that name must have done."""

    def __init__(self, retry: Retry) -> None:
        self.retry = retry
        self.items: dict[int, Item] = {}
        self.boots: list[Boot] = []
        self.now_ms = 0
        self.heard_ms = 0
        self.vcpus = [1]
        """What each spec revision needs, from the first on."""
        self.machine = 1
        self.proven: dict[int, int] = {}
        """The machine's revision now, and for each spec revision the latest that has claimed: till then few are
        dispatched at once."""

    def move(self, act: Act, item: Item, to: ItemState) -> None:
        assert to in ACTS[act].transitions[item.state], f"{act}: {item.state} -> {to} is not in the table"
        item.state = to

    def push(self, first: int, last: int) -> None:
        for number in range(first, last + 1):
            assert number not in self.items
            self.items[number] = Item(revision=len(self.vcpus))

    def may_go(self, vcpus: int) -> set[int]:
        """Return the ready items that fit into so many vcpus and wait for no canary to claim or end."""
        ready = {number for number, item in self.items.items() if item.state == ItemState.READY}
        return {
            number
            for number in ready
            if self.vcpus[self.items[number].revision - 1] <= vcpus and not self._waits(self.items[number].revision)
        }

    def _waits(self, revision: int) -> bool:
        """Tell whether no item of the spec revision is given out before a canary has claimed or ended."""
        given = [item for item in self.items.values() if item.state == ItemState.DISPATCHED]
        current = [item.current for item in given if item.revision == revision]
        out = [boot for boot in current if boot is not None and boot.given.machine.revision == self.machine]
        return self.proven.get(revision, 0) < self.machine and len(out) >= CANARIES

    def change_spec(self, vcpus: int) -> None:
        self.vcpus.append(vcpus)

    def change_machine(self) -> None:
        self.machine += 1

    def dispatch(self, given: Dispatched, number: int, key: str) -> Boot:
        item = self.items[number]
        self.move(Act.DISPATCH, item, ItemState.DISPATCHED)
        item.boots += 1
        item.fence += 1
        boot = Boot(given, number, key)
        if item.last is not None:
            item.last.may_settle_late = False
        item.current = item.last = boot
        item.deadline_ms, item.bound_ms = self.now_ms + deadlines.FIRST_DEADLINE_MS, None
        self.boots.append(boot)
        return boot

    def attend(self, boot: Boot, bound_ms: int | None) -> None:
        """Note a phase (with a bound, when it begins one) or an extend of the launcher."""
        self.heard_ms = self.now_ms
        item = self.items[boot.item]
        if item.current is not boot or item.state != ItemState.DISPATCHED:
            return
        if bound_ms is not None:
            item.bound_ms = self.now_ms + bound_ms
        if item.bound_ms is not None:
            item.deadline_ms = min(item.bound_ms, self.now_ms + deadlines.DEFAULT.launcher_grace_ms)

    def claim(self, boot: Boot, lease: Lease) -> None:
        item = self.items[boot.item]
        self.move(Act.CLAIM, item, ItemState.RUNNING)
        boot.lease = lease
        self.proven[item.revision] = max(self.proven.get(item.revision, 0), boot.given.machine.revision)
        item.deadline_ms = self.now_ms + deadlines.DEFAULT.lease_ms

    def extend(self, boot: Boot) -> None:
        item = self.items[boot.item]
        item.deadline_ms, item.given_back, boot.is_extended = self.now_ms + deadlines.DEFAULT.lease_ms, 0, True

    def complete(self, boot: Boot, result: str) -> None:
        item = self.items[boot.item]
        self.move(Act.COMPLETE, item, ItemState.DONE)
        item.current, item.last_lease, boot.result, boot.over = None, boot, result, Act.COMPLETE
        self.close(boot, "complete", ItemState.DONE)

    def close(self, boot: Boot, word: str, to: ItemState) -> None:
        """Note that the guest itself ended its lease."""
        boot.closed, boot.closed_ms = (word, to.value), self.now_ms

    def cancel(self, item: Item) -> None:
        boot, was_running = item.current, item.state == ItemState.RUNNING
        self.move(Act.CANCEL, item, ItemState.CANCELLED)
        item.fence += 1
        item.current = None
        if boot is not None:
            boot.over = Act.CANCEL
        if was_running:
            item.last_lease = boot
        if item.last is not None:
            item.last.may_settle_late = False

    def hold(self, item: Item) -> None:
        self.move(Act.HOLD, item, ItemState.HELD)

    def release(self, item: Item) -> None:
        self.move(Act.RELEASE, item, ItemState.READY)
        item.attempts = item.boots = item.given_back = 0

    def fail(self, act: Act, boot: Boot, *, is_hold_code: bool = False) -> ItemState:
        """Do a failed attempt; return where the item went."""
        item = self.items[boot.item]
        item.attempts += 1
        item.given_back = 0
        is_last = item.attempts >= self.retry.attempts or item.boots >= self.retry.boots
        to = ItemState.HELD if is_hold_code or is_last else ItemState.DELAYED
        return self._back(act, item, to, nth=item.attempts)

    def give_back(self, act: Act, boot: Boot) -> ItemState:
        """Do a give back; return where the item went."""
        item = self.items[boot.item]
        item.given_back += 1
        if item.boots >= self.retry.boots:
            to = ItemState.HELD
        else:
            to = ItemState.READY if item.given_back == 1 else ItemState.DELAYED
        return self._back(act, item, to, nth=item.given_back - 1)

    def promote(self, item: Item) -> None:
        self.move(Act.PROMOTE, item, ItemState.READY)

    def expire(self, item: Item) -> None:
        """Do what the clock does to an item whose deadline passed."""
        boot = item.current
        assert boot is not None
        is_running = item.state == ItemState.RUNNING
        if is_running and self.now_ms - self.heard_ms <= deadlines.DEFAULT.launcher_grace_ms:
            self.fail(Act.EXPIRE, boot)
            boot.over_code = OverCode.LEASE_EXPIRED
        else:
            self.give_back(Act.EXPIRE, boot)
        boot.may_settle_late = is_running

    def is_near(self, at_ms: int) -> bool:
        return 0 < at_ms - self.now_ms < SLACK_MS

    def is_closing(self, boot: Boot) -> bool:
        return boot.closed is not None and self.now_ms - boot.closed_ms < deadlines.DEFAULT.launcher_grace_ms

    def numbers(self, states: set[ItemState]) -> set[int]:
        return {number for number, item in self.items.items() if item.state in states}

    def counts(self) -> dict[str, int]:
        states = [item.state.value for item in self.items.values()]
        return {state: states.count(state) for state in set(states)}

    def _back(self, act: Act, item: Item, to: ItemState, nth: int) -> ItemState:
        if item.state == ItemState.RUNNING:
            item.last_lease = item.current
        self.move(act, item, to)
        assert item.current is not None
        item.current.over = act
        item.current = None
        if to == ItemState.DELAYED:
            full = min(self.retry.backoff_max_ms, self.retry.backoff_first_ms * 2 ** (nth - 1))
            item.due_ms = (self.now_ms + full // 2, self.now_ms + full)
        return to

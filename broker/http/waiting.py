"""The waiting room: launchers that offered room and got nothing yet, parked in the order they came.

A bell starts one pass through the room. Whoever is tried first and fits gets the item; the pass goes on, for more may
be ready, and ends as soon as everybody left offers no more than somebody who was just told "nothing". So one item wakes
one launcher, and the store is asked once for each item and each kind of room, not once for each launcher.

That "nothing" stands until the next bell, so whoever comes meanwhile and offers no more is parked without asking. The
store hears of those all at once, a moment later, and tells which of them only repeat what they were given before.

Nobody is given an item whose connection is gone. If it breaks in the moment of giving, the launcher's retry with its
dispatch key gets the same item, or the store takes it back at its first deadline.

What each launcher has offered at most is remembered while it is busy: it tells a need that nobody can ever meet from
one that has to wait.
"""

import asyncio
import heapq
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import msgspec
import structlog

from broker.domain.errors import Conflict, Unavailable
from broker.http.offers import Kind, Nothing, Offer, larger
from broker.http.passes import Passes
from broker.store import MAX_HEARD, Dispatched, Presence
from broker.store.launchers import too_many_launchers
from broker.wire.names import StreamRef
from broker.wire.problems import ProblemCode

HEAR_S = 1.0
"""So much later than it came, at most, the store hears of a launcher that was parked without asking."""
_TURNS_TO_ANSWER = 4
"""So many turns of the loop later an answer is out; others are looked at after it."""

log = structlog.get_logger(__name__)


Take = Callable[[Offer], Awaitable[list[Dispatched]]]
Hear = Callable[[Sequence[Offer]], Awaitable[Sequence[Presence]]]


@dataclass(eq=False)
class _Waiter:
    offer: Offer
    kind: Kind
    ends_ms: float
    number: int
    """Who came first has the smallest."""
    is_connected: Callable[[], bool]
    given: asyncio.Future[list[Dispatched]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_being_served: bool = False


class WaitingRoom:
    """Parks offers over one way to take items from the store, and one to have it note who is there."""

    def __init__(self, take: Take, hear: Hear, *, capacity: int) -> None:
        self._take = take
        self._hear = hear
        self._capacity = capacity
        self._waiters: dict[_Waiter, None] = {}
        self._kinds: dict[Kind, dict[_Waiter, None]] = {}
        self._parked_of: Counter[str] = Counter()
        self._came = 0
        self._largest: dict[str, Offer] = {}
        self._passes = Passes()
        self._rings = 0
        self._rung_by: StreamRef | None = None
        self._told_nothing = Nothing()
        self._unheard: dict[_Waiter, None] = {}
        self._is_closed = False

    @property
    def parked(self) -> int:
        """How many wait now."""
        return len(self._waiters)

    def offers(self) -> list[Offer]:
        """Return what is offered by those who wait now."""
        return [waiter.offer for waiter in self._waiters]

    def largest(self, launchers: AbstractSet[str]) -> list[Offer]:
        """Return the most that each of these launchers, and of those who wait, has offered; forget the others."""
        there = launchers | {offer.request.launcher for offer in self.offers()}
        self._largest = {name: offer for name, offer in self._largest.items() if name in there}
        return list(self._largest.values())

    async def offer(self, offer: Offer, is_connected: Callable[[], bool], wait_s: float) -> list[Dispatched]:
        """Return items for the offer as soon as there is one, or none after `wait_s`.

        Raises:
            Unavailable: the store is away, or too many wait.
            Conflict: TOO_MANY_LAUNCHERS.
        """
        rings_before = self._rings
        kind, ends_ms = offer.kind, offer.ends_ms()
        is_asking = wait_s <= 0 or ends_ms > self._told_nothing.until_ms(kind)
        found = await self._take(offer) if is_asking else []
        self._remember(offer)
        if found or wait_s <= 0 or self._is_closed:
            return found
        if is_asking and self._rings == rings_before:
            self._told_nothing.remember(kind, ends_ms)
        # Half of the room, at most, is any one token's.
        if self.parked >= self._capacity or self._parked_of[offer.token] >= max(1, self._capacity // 2):
            raise Unavailable(ProblemCode.STORE_UNAVAILABLE, "too many launchers wait here: try again", retry_after_s=5)
        self._came += 1
        waiter = _Waiter(offer, kind, ends_ms, self._came, is_connected)
        self._waiters[waiter] = None
        self._parked_of[offer.token] += 1
        self._kinds.setdefault(waiter.kind, {})[waiter] = None
        if not is_asking:
            self._unheard[waiter] = None
        if self._rings != rings_before:
            self._passes.ring()  # it rang between asking and parking
        # No timeout of asyncio's: it would need a shield for what is given, and one more turn of the loop.
        timer = asyncio.get_running_loop().call_later(wait_s, self._end, waiter)
        try:
            return await waiter.given
        finally:
            timer.cancel()
            self._leave(waiter)
            self._unheard.pop(waiter, None)

    def ring(self, stream: StreamRef) -> None:
        """Say that something is ready, of this stream for one."""
        self._forget_nothing()
        if self._passes.ring():
            self._rung_by = stream

    def expect(self, stream: StreamRef, items: int) -> bool:
        """Say that items of the stream are being written to the store: what is asked now comes right behind them.

        Whoever waits gets one that much sooner; where it was asked too soon, the bell that follows makes good for it.
        Tell whether anybody waits: who wrote the items may `give_way` then, before it says so.
        """
        if self._waiters:
            self._forget_nothing()
            self._rung_by = stream
            self._passes.expect(items)
        return bool(self._waiters)

    def _forget_nothing(self) -> None:
        self._rings += 1
        self._told_nothing = Nothing()

    async def give_way(self) -> None:
        """Let those be answered first whose items came from the store just now."""
        for _ in range(_TURNS_TO_ANSWER):
            await asyncio.sleep(0)

    async def run(self) -> None:
        """Match for ever."""
        while True:
            await self.run_once(await self._passes.due())
            self._passes.passed()

    async def keep_heard(self) -> None:
        """Have the store note those who were parked without asking it, for ever."""
        while True:
            await asyncio.sleep(HEAR_S)
            await self.hear_once()

    async def hear_once(self) -> None:
        """Have the store note them now; whoever repeats what was given before gets it."""
        waiters = [waiter for waiter in self._unheard if waiter in self._waiters][:MAX_HEARD]
        if not waiters:
            return
        try:
            answers = await self._hear([waiter.offer for waiter in waiters])
        except Unavailable as error:
            log.warning("store_unavailable", reason=error.detail)
            return
        for waiter, presence in zip(waiters, answers, strict=True):
            self._unheard.pop(waiter, None)
            if waiter not in self._waiters or waiter.is_being_served or waiter.given.done():
                continue
            if presence is Presence.FULL:
                waiter.given.set_exception(too_many_launchers())
            elif presence is Presence.GIVEN and not await self._is_given_again(waiter):
                return

    async def _is_given_again(self, waiter: _Waiter) -> bool:
        """Serve who repeats a request; False when the store went away: it is heard once more then."""
        try:
            await self._serve(waiter, waiter.offer)
        except Unavailable as error:
            log.warning("store_unavailable", reason=error.detail)
            self._unheard[waiter] = None
            return False
        except Conflict as error:
            if not waiter.given.done():
                waiter.given.set_exception(error)
        return True

    async def run_once(self, most: float = math.inf) -> int:
        """Go through the room once, until so many were given something; return how many were."""
        given, rings, rung_by = 0, self._rings, self._rung_by
        self._rung_by = None
        nothing = Nothing()
        for waiter in self._in_order(nothing):
            if waiter not in self._waiters or waiter.is_being_served or waiter.given.done():
                continue
            if not waiter.is_connected():
                self._settle(waiter, [])
                continue
            try:
                found = await self._serve(waiter, waiter.offer._replace(is_heard=True, rung_by=rung_by))
                rung_by = None  # what comes after its first items is anybody's guess
            except Unavailable as error:
                log.warning("store_unavailable", reason=error.detail)
                return given
            if not found:
                nothing.note(waiter.kind, waiter.ends_ms)
            else:
                given += 1
                await self.give_way()
                if given >= most:
                    break
        if rings == self._rings:
            self._told_nothing = nothing.to_remember()
        return given

    def _in_order(self, nothing: Nothing) -> Iterator[_Waiter]:
        """Yield those who wait now in the order they came, but for those that are known to get nothing by then.

        Of a kind that gets nothing, whatever time is left, none is looked at any more: a pass costs what it gives and
        the kinds there are, not the thousands who wait.
        """
        queues = [_queue(members) for members in self._kinds.values()]
        heads = [(waiter.number, waiter, queue) for queue in queues if (waiter := next(queue, None)) is not None]
        heapq.heapify(heads)
        while heads:
            _, waiter, queue = heads[0]
            if waiter.ends_ms > nothing.until_ms(waiter.kind):
                yield waiter
            until_ms = nothing.until_ms(waiter.kind)
            following = next((each for each in queue if each.ends_ms > until_ms), None) if until_ms < math.inf else None
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (following.number, following, queue))

    def close(self) -> None:
        """Answer everybody "nothing": the broker stops."""
        self._is_closed = True
        for waiter in list(self._waiters):
            if not waiter.is_being_served:
                self._settle(waiter, [])

    async def _serve(self, waiter: _Waiter, offer: Offer) -> list[Dispatched]:
        waiter.is_being_served = True
        found: list[Dispatched] = []
        try:
            found = await self._take(offer)
        finally:
            waiter.is_being_served = False
            if found or waiter not in self._waiters or self._is_closed:
                self._settle(waiter, found)
        return found

    def _remember(self, offer: Offer) -> None:
        launcher = offer.request.launcher
        known = self._largest.pop(launcher, offer)
        room = larger(known.request.room, offer.request.room)
        self._largest[launcher] = offer._replace(request=msgspec.structs.replace(offer.request, room=room))
        if len(self._largest) > self._capacity:
            del self._largest[next(iter(self._largest))]

    def _leave(self, waiter: _Waiter) -> None:
        if waiter not in self._waiters:
            return
        del self._waiters[waiter]
        self._parked_of[waiter.offer.token] -= 1
        if not self._parked_of[waiter.offer.token]:
            del self._parked_of[waiter.offer.token]
        members = self._kinds[waiter.kind]
        del members[waiter]
        if not members:
            del self._kinds[waiter.kind]

    def _end(self, waiter: _Waiter) -> None:
        """End the wait of one whose time is over.

        The one who waits longest is served first, and so often in that very moment: then it gets what it is served.
        """
        if waiter.is_being_served:
            self._leave(waiter)  # so that a "nothing" on its way settles it, too
        else:
            self._settle(waiter, [])

    def _settle(self, waiter: _Waiter, found: list[Dispatched]) -> None:
        self._leave(waiter)
        if not waiter.given.done():
            waiter.given.set_result(found)


def _queue(members: Mapping[_Waiter, None]) -> Iterator[_Waiter]:
    """Yield them in the order they came; those behind the first one as they are when the second is asked for.

    One item wakes one: to list thousands before the first was given something would make it wait.
    """
    first = next(iter(members), None)
    if first is not None:
        yield first
        yield from [each for each in members if each.number > first.number]

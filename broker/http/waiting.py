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
import math
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import structlog

from broker.domain.errors import Unavailable
from broker.domain.scopes import Authority, Scopes
from broker.http.bells import SLOW_POLL_S
from broker.store import MAX_HEARD, Dispatched, Presence
from broker.store.launchers import too_many_launchers
from broker.wire.dispatches import DispatchRequest, Room
from broker.wire.problems import ProblemCode

HEAR_S = 1.0
"""So much later than it came, at most, the store hears of a launcher that was parked without asking."""
_PASSED_AT_ONCE = 200
"""So many of those who wait are looked at before others in this process have their turn."""
_MOST_KINDS = 16
"""Offers that were told "nothing" which are remembered: of rooms and users there are few kinds."""

log = structlog.get_logger(__name__)


class Offer(NamedTuple):
    """A launcher's room, whom its token lets it serve, and when it came, by the clock of the process's loop.

    `is_heard`: the store has heard of the launcher, or will in a moment, and its request repeats none.
    """

    request: DispatchRequest
    scopes: Scopes
    came_s: float = 0.0
    is_heard: bool = False

    def serves(self, user: str) -> bool:
        """Tell whether the token covers the user and the site serves them."""
        users = self.request.users
        return (not users or user in users) and self.scopes.permit(Authority.DISPATCH, (user,))

    def as_of(self, now_s: float) -> "Offer":
        """Return the offer as it would have to be made now: of its time, some has passed."""
        left_ms = self.request.room.time_left_ms
        if left_ms is None:
            return self
        left_ms -= max(0, round((now_s - self.came_s) * 1_000))
        room = msgspec.structs.replace(self.request.room, time_left_ms=left_ms)
        return self._replace(request=msgspec.structs.replace(self.request, room=room), came_s=now_s)

    def is_covered_by(self, other: "Offer") -> bool:
        """Tell whether everything that fits here would have fitted there, both as of the later one of them.

        A pass through the room asks it for each pair: what is cheap and tells most comes first.
        """
        return (
            _covers(other.request.room, self.request.room)
            and self.ends_ms() <= other.ends_ms()
            and self.scopes == other.scopes
            and _is_for_as_many(other.request.users, self.request.users)
        )

    def ends_ms(self) -> float:
        """Return when its time is over, by the clock of `came_s`."""
        left_ms = self.request.room.time_left_ms
        return math.inf if left_ms is None else round(self.came_s * 1_000) + left_ms


Take = Callable[[Offer], Awaitable[list[Dispatched]]]
Hear = Callable[[Sequence[Offer]], Awaitable[Sequence[Presence]]]


@dataclass(eq=False)
class _Waiter:
    offer: Offer
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
        self._largest: dict[str, Offer] = {}
        self._rung = asyncio.Event()
        self._rings = 0
        self._told_nothing: list[Offer] = []
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
        is_asking = wait_s <= 0 or not self._is_known_to_get_nothing(offer)
        found = await self._take(offer) if is_asking else []
        self._remember(offer)
        if found or wait_s <= 0 or self._is_closed:
            return found
        if is_asking:
            self._note_nothing(offer, rings_before)
        if self.parked >= self._capacity:
            raise Unavailable(ProblemCode.STORE_UNAVAILABLE, "too many launchers wait here: try again", retry_after_s=5)
        waiter = _Waiter(offer, is_connected)
        self._waiters[waiter] = None
        if not is_asking:
            self._unheard[waiter] = None
        if self._rings != rings_before:
            self._rung.set()  # it rang between asking and parking
        try:
            async with asyncio.timeout(wait_s):
                return await asyncio.shield(waiter.given)
        except TimeoutError:
            self._waiters.pop(waiter, None)  # so that a "nothing" on its way settles it, too
            return await waiter.given if waiter.is_being_served else []
        finally:
            self._waiters.pop(waiter, None)
            self._unheard.pop(waiter, None)

    def ring(self) -> None:
        """Say that something is ready."""
        self._rings += 1
        self._told_nothing = []
        self._rung.set()

    async def run(self) -> None:
        """Match for ever: at every bell, and by itself where bells were lost."""
        while True:
            try:
                async with asyncio.timeout(SLOW_POLL_S):
                    await self._rung.wait()
            except TimeoutError:
                log.debug("waiting_room_polled", waiting=self.parked)
            self._rung.clear()
            await self.run_once()

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
            if waiter not in self._waiters or waiter.is_being_served:
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
        return True

    async def run_once(self) -> int:
        """Go through the room once; return how many were given something."""
        given, rings = 0, self._rings
        told_nothing: list[Offer] = []
        for passed, waiter in enumerate(list(self._waiters), 1):
            if passed % _PASSED_AT_ONCE == 0:
                await asyncio.sleep(0)
            if waiter not in self._waiters or waiter.is_being_served or _is_covered(waiter.offer, told_nothing):
                continue
            if not waiter.is_connected():
                self._settle(waiter, [])
                continue
            try:
                found = await self._serve(waiter, waiter.offer._replace(is_heard=True))
            except Unavailable as error:
                log.warning("store_unavailable", reason=error.detail)
                return given
            if not found:
                told_nothing.append(waiter.offer)
            else:
                given += 1
                await asyncio.sleep(0)  # so that the answer goes out before all others are looked at
        if rings == self._rings:
            self._told_nothing = told_nothing[:_MOST_KINDS]
        return given

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

    def _is_known_to_get_nothing(self, offer: Offer) -> bool:
        return _is_covered(offer, self._told_nothing)

    def _note_nothing(self, offer: Offer, rings: int) -> None:
        """Note that the store had nothing for an offer, unless it rang since."""
        if rings == self._rings and len(self._told_nothing) < _MOST_KINDS:
            self._told_nothing.append(offer)

    def _remember(self, offer: Offer) -> None:
        launcher = offer.request.launcher
        known = self._largest.pop(launcher, offer)
        room = larger(known.request.room, offer.request.room)
        self._largest[launcher] = offer._replace(request=msgspec.structs.replace(offer.request, room=room))
        if len(self._largest) > self._capacity:
            del self._largest[next(iter(self._largest))]

    def _settle(self, waiter: _Waiter, found: list[Dispatched]) -> None:
        self._waiters.pop(waiter, None)
        if not waiter.given.done():
            waiter.given.set_result(found)


def _is_covered(offer: Offer, told_nothing: list[Offer]) -> bool:
    return any(offer.is_covered_by(each) for each in told_nothing)


def _is_for_as_many(more: tuple[str, ...], users: tuple[str, ...]) -> bool:
    return not more or more == users or (bool(users) and frozenset(users) <= frozenset(more))


def _covers(larger: Room, room: Room) -> bool:
    """Tell whether what fits into a room, but for its time, fits into the larger one."""
    return (
        room.vcpus <= larger.vcpus
        and room.memory_mib <= larger.memory_mib
        and room.disk_mib <= larger.disk_mib
        and room.accelerator == larger.accelerator
        and all(exchange in larger.exchanges for exchange in room.exchanges)
    )


def larger(before: Room, now: Room) -> Room:
    """Return the most of both; what a node is, and how long it stays, as it is now."""
    return msgspec.structs.replace(
        now,
        vcpus=max(before.vcpus, now.vcpus),
        memory_mib=max(before.memory_mib, now.memory_mib),
        disk_mib=max(before.disk_mib, now.disk_mib),
    )

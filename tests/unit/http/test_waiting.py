import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import pytest

from broker.domain.errors import Conflict, Unavailable
from broker.domain.scopes import Scopes, scopes_of_launcher
from broker.http.offers import Nothing, Offer
from broker.http.waiting import WaitingRoom
from broker.store import Dispatched, Presence
from broker.wire.dispatches import DispatchRequest, Room
from broker.wire.names import StreamRef, UserName
from broker.wire.problems import ProblemCode
from broker.wire.states import Accelerator
from tests.support.waiting import until

EVERYBODY = scopes_of_launcher()
WAIT_S = 0.2
STREAM = StreamRef(UserName("alice"), "render")


def offer(
    launcher: str,
    memory_mib: int = 1_000,
    scopes: Scopes = EVERYBODY,
    left_ms: int | None = None,
    came_s: float = 0,
    users: tuple[str, ...] = (),
) -> Offer:
    room = Room(vcpus=1, memory_mib=memory_mib, disk_mib=1, accelerator=Accelerator.TCG, time_left_ms=left_ms)
    request = DispatchRequest(dispatch_key=launcher, launcher=launcher, node="n", room=room, users=users)
    return Offer(request, scopes, came_s)


class Shelf:
    """Items by the memory they want; what was asked for is noted."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.asked: list[str] = []
        self.heard: list[str] = []
        self.presence: dict[str, Presence] = {}
        self.is_away = False

    async def take(self, offer: Offer) -> list[Dispatched]:
        self.asked.append(offer.request.launcher)
        await asyncio.sleep(0)
        if self.is_away:
            raise Unavailable(ProblemCode.STORE_UNAVAILABLE, "away")
        for item in self.items:
            if item <= offer.request.room.memory_mib:
                self.items.remove(item)
                return [cast("Dispatched", f"item for {offer.request.launcher}")]
        return []

    async def hear(self, offers: Sequence[Offer]) -> list[Presence]:
        names = [offer.request.launcher for offer in offers]
        self.heard += names
        return [self.presence.get(name, Presence.HEARD) for name in names]


async def parked(room: WaitingRoom, *offers: Offer, wait_s: float = 10) -> list[asyncio.Task[list[Dispatched]]]:
    tasks = []
    for number, each in enumerate(offers, room.parked + 1):
        tasks.append(asyncio.create_task(room.offer(each, lambda: True, wait_s)))
        await _until(partial(_has_parked, room, number))
    return tasks


def _has_parked(room: WaitingRoom, count: int) -> bool:
    return room.parked == count


async def _until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await until(holds, "the room changes")


async def test_items_go_to_who_waited_longest_and_the_store_is_asked_once_more() -> None:
    shelf = Shelf()
    room = WaitingRoom(shelf.take, shelf.hear, capacity=100)
    tasks = await parked(room, *(offer(f"l{number}") for number in range(20)))
    shelf.items, shelf.asked = [1, 1], []

    assert await room.run_once() == 2

    assert [*map(str, await tasks[0] + await tasks[1])] == ["item for l0", "item for l1"]
    assert shelf.asked == ["l0", "l1", "l2"], "who offers no more than l2 need not be asked"
    assert room.parked == 18
    room.close()
    assert await asyncio.gather(*tasks[2:]) == [[]] * 18


async def test_an_item_that_comes_in_the_moment_in_which_the_wait_ends_is_not_lost() -> None:
    shelf = Shelf()

    async def take(offer: Offer) -> list[Dispatched]:
        if shelf.items:
            time.sleep(2 * WAIT_S)  # noqa: ASYNC251 # the loop finds the wait's end and the item in one turn
        return await shelf.take(offer)

    room = WaitingRoom(take, shelf.hear, capacity=100)
    [task] = await parked(room, offer("late"), wait_s=WAIT_S)
    shelf.items = [1]
    assert await room.run_once() == 1
    assert [*map(str, await task)] == ["item for late"]


async def test_who_offers_more_is_asked_after_who_was_told_nothing() -> None:
    shelf = Shelf()
    room = WaitingRoom(shelf.take, shelf.hear, capacity=100)
    offers = [offer("small"), offer("small-too"), offer("large", 4_000), offer("short", 4_000, left_ms=5)]
    tasks = await parked(room, *offers)
    shelf.items, shelf.asked = [4_000], []

    await room.run_once()

    assert [*map(str, await tasks[2])] == ["item for large"]
    assert shelf.asked == ["small", "large", "short"]
    room.close()
    await asyncio.gather(*tasks)


async def test_who_offers_no_more_than_one_who_was_told_nothing_is_parked_without_asking() -> None:
    shelf = Shelf()
    room = WaitingRoom(shelf.take, shelf.hear, capacity=100)
    tasks = await parked(room, offer("first"), offer("second"), offer("large", 4_000), offer("third"))
    assert shelf.asked == ["first", "large"]
    await room.hear_once()
    await room.hear_once()
    assert shelf.heard == ["second", "third"], "the store hears of each once"

    room.ring(STREAM)
    shelf.items = [1]
    tasks += [asyncio.create_task(room.offer(offer("late"), lambda: True, 10))]
    assert [*map(str, await tasks[-1])] == ["item for late"], "after a bell the store is asked"
    room.close()
    await asyncio.gather(*tasks[:-1])


async def test_one_of_them_that_repeats_its_request_gets_what_it_was_given_and_one_too_many_is_refused() -> None:
    shelf = Shelf()
    room = WaitingRoom(shelf.take, shelf.hear, capacity=100)
    tasks = await parked(room, offer("first"), offer("repeats"), offer("too-many"))
    shelf.presence = {"repeats": Presence.GIVEN, "too-many": Presence.FULL}
    shelf.items = [1]

    await room.hear_once()

    assert [*map(str, await tasks[1])] == ["item for repeats"]
    with pytest.raises(Conflict) as refused:
        await tasks[2]
    assert refused.value.code is ProblemCode.TOO_MANY_LAUNCHERS
    room.close()
    await tasks[0]


async def test_a_store_that_goes_away_while_it_hears_ends_nothing() -> None:
    shelf = Shelf()
    room = WaitingRoom(shelf.take, shelf.hear, capacity=100)
    tasks = await parked(room, offer("first"), offer("repeats"))
    shelf.presence, shelf.is_away = {"repeats": Presence.GIVEN}, True

    await room.hear_once()

    shelf.is_away, shelf.items = False, [1]
    await room.hear_once()
    assert [*map(str, await tasks[1])] == ["item for repeats"], "it was asked for again"
    room.close()
    await tasks[0]


async def test_an_item_that_comes_while_the_wait_ends_is_not_lost() -> None:
    gate, served = asyncio.Event(), asyncio.Event()

    async def slow(_: Offer) -> list[Dispatched]:
        if not served.is_set():
            served.set()
            return []
        await gate.wait()
        return [cast("Dispatched", "late")]

    room = WaitingRoom(slow, Shelf().hear, capacity=10)
    [task] = await parked(room, offer("l"), wait_s=0.05)
    matching = asyncio.create_task(room.run_once())
    await _until(lambda: room.parked == 0)

    gate.set()

    assert [str(each) for each in await task] == ["late"]
    assert await matching == 1


async def test_a_full_room_and_an_absent_store_are_told() -> None:
    shelf = Shelf()
    room = WaitingRoom(shelf.take, shelf.hear, capacity=1)
    tasks = await parked(room, offer("l"))
    with pytest.raises(Unavailable, match="too many"):
        await room.offer(offer("m"), lambda: True, 1)

    shelf.is_away = True
    assert await room.run_once() == 0
    assert room.parked == 1, "who waits goes on waiting"
    room.close()
    assert await asyncio.gather(*tasks) == [[]]


async def test_launchers_of_one_token_leave_half_of_the_room_to_others() -> None:
    shelf = Shelf()
    room = WaitingRoom(shelf.take, shelf.hear, capacity=4)
    tasks = await parked(room, offer("mallory/1"), offer("mallory/2"))
    with pytest.raises(Unavailable, match="too many"):
        await room.offer(offer("mallory/3"), lambda: True, 1)
    tasks += await parked(room, offer("alice/1"))

    room.close()
    assert await asyncio.gather(*tasks) == [[]] * 3


async def test_what_became_ready_between_asking_and_parking_is_found() -> None:
    shelf = Shelf()
    room = WaitingRoom(shelf.take, shelf.hear, capacity=10)
    matching = asyncio.create_task(room.run())
    task = asyncio.create_task(room.offer(offer("l"), lambda: True, 10))
    await _until(lambda: bool(shelf.asked))
    shelf.items = [1]
    room.ring(STREAM)

    async with asyncio.timeout(2):
        assert [str(each) for each in await task] == ["item for l"]
    matching.cancel()


async def test_the_most_that_a_launcher_offered_is_known_while_it_is_busy_and_goes_with_it() -> None:
    shelf = Shelf()
    room = WaitingRoom(shelf.take, shelf.hear, capacity=2)
    for memory_mib in (4_000, 1_000):
        await room.offer(offer("busy", memory_mib), lambda: True, 0)
    tasks = await parked(room, offer("waiting", 2_000))

    assert _memory(room, "busy") == {"busy": 4_000, "waiting": 2_000}
    assert _memory(room) == {"waiting": 2_000}
    assert _memory(room, "busy") == {"waiting": 2_000}, "it went, and came back without an offer"
    for launcher in ("second", "third"):
        await room.offer(offer(launcher), lambda: True, 0)
    assert _memory(room, "second", "third") == {"second": 1_000, "third": 1_000}, "no more than wait are remembered"
    room.close()
    await asyncio.gather(*tasks)


def _memory(room: WaitingRoom, *launchers: str) -> dict[str, int]:
    offers = room.largest(set(launchers))
    return {offer.request.launcher: offer.request.room.memory_mib for offer in offers}


def test_time_that_an_offer_has_left_goes_by_while_it_waits() -> None:
    waiting = offer("l", left_ms=60_000, came_s=100)
    assert waiting.as_of(100).request.room.time_left_ms == 60_000
    assert waiting.as_of(130).request.room.time_left_ms == 30_000
    assert waiting.as_of(130).as_of(140).request.room.time_left_ms == 20_000
    assert offer("endless", came_s=100).as_of(130).request.room.time_left_ms is None


@pytest.mark.parametrize(
    ("there", "here", "is_covered"),
    [
        (offer("a", left_ms=60_000, came_s=0), offer("b", left_ms=40_000, came_s=20), True),
        (offer("a", left_ms=60_000, came_s=0), offer("b", left_ms=41_000, came_s=20), False),
        (offer("a", left_ms=40_000, came_s=20), offer("b", left_ms=60_000, came_s=0), True),
        (offer("a", left_ms=40_000, came_s=20), offer("b", left_ms=61_000, came_s=0), False),
        (offer("a", came_s=20), offer("b", left_ms=1, came_s=0), True),
        (offer("a"), offer("b", users=("alice",)), True),
        (offer("a", users=("alice", "bob")), offer("b", users=("alice",)), True),
        (offer("a", users=("alice",)), offer("b", users=("alice", "bob")), False),
        (offer("a", users=("alice",)), offer("b"), False),
    ],
)
def test_an_offer_is_covered_by_one_that_ends_no_sooner_and_serves_no_fewer(
    there: Offer, here: Offer, is_covered: bool
) -> None:
    nothing = Nothing()
    nothing.note(there.kind, there.ends_ms())
    assert (here.ends_ms() <= nothing.until_ms(here.kind)) is is_covered


def test_a_site_serves_those_of_its_list_whom_the_token_covers() -> None:
    assert offer("l").serves("anybody")
    listed = offer("l", users=("alice", "bob"), scopes=scopes_of_launcher(["alice", "carol"]))
    assert [user for user in ("alice", "bob", "carol") if listed.serves(user)] == ["alice"]

"""Processes over one store tell each other what launchers offer to them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from broker.domain.scopes import parse_scopes, scopes_of_launcher
from broker.http import roll_call
from broker.http.offers import Offer
from broker.http.prospects import largest_of
from broker.http.roll_call import Offered, RollCall
from broker.http.waiting import WaitingRoom
from broker.store import Dispatched, Presence, Store
from broker.wire.dispatches import DispatchRequest, Room
from broker.wire.names import UserName
from broker.wire.states import Accelerator
from tests.support.stores import StoreServer, connected
from tests.support.waiting import until

ALICE = UserName("alice")


@pytest.fixture
async def store(embedded_server: StoreServer) -> AsyncIterator[Store]:
    async with connected(embedded_server.url) as store:
        yield store


@asynccontextmanager
async def process(store: Store) -> AsyncIterator[tuple[RollCall, WaitingRoom]]:
    """A process of a broker, as far as others hear of it; given when it listens."""
    waiting = WaitingRoom(nothing, unheard, capacity=10)
    called = RollCall(store, waiting)
    before = await listening(store)

    async def listens() -> bool:
        return await listening(store) > before

    async with asyncio.TaskGroup() as group:
        task = group.create_task(called.run())
        await until(listens, "the process listens")
        yield called, waiting
        task.cancel()


async def listening(store: Store) -> int:
    _, count = await store._server.command("PUBSUB", "NUMSUB", store._keys.peers)
    return int(count)


async def nothing(_: Offer) -> list[Dispatched]:
    return []


async def unheard(offers: Sequence[Offer]) -> list[Presence]:
    return [Presence.HEARD] * len(offers)


def offer(launcher: str, memory_mib: int, scopes: str | None = None) -> Offer:
    request = DispatchRequest(dispatch_key=launcher, launcher=launcher, node="n", room=room(memory_mib))
    return Offer(request, scopes_of_launcher() if scopes is None else parse_scopes(scopes))


def room(memory_mib: int, vcpus: int = 1) -> Room:
    return Room(vcpus=vcpus, memory_mib=memory_mib, disk_mib=1, accelerator=Accelerator.TCG)


async def test_what_is_offered_to_one_process_is_known_to_the_others(store: Store) -> None:
    async with process(store) as (first, here), process(store) as (second, there), asyncio.TaskGroup() as group:
        group.create_task(here.offer(offer("l/a", 1_000), lambda: True, 30))
        group.create_task(there.offer(offer("l/b", 2_000), lambda: True, 30))
        group.create_task(there.offer(offer("l/bobs", 3_000, "vm.dispatch:/bob"), lambda: True, 30))

        async def all_wait() -> bool:
            return (here.parked, there.parked) == (1, 2)

        await until(all_wait, "three launchers wait")
        for asker in (first, second):
            told = [each for each in await asker.offers(ALICE, {"l/a", "l/b"}) if each.is_parked]
            assert sorted((each.launcher, each.serves, each.room.memory_mib) for each in told) == [
                ("l/a", True, 1_000),
                ("l/b", True, 2_000),
                ("l/bobs", False, 3_000),
            ]
        here.close()
        there.close()


async def test_several_who_ask_at_once_are_each_answered(store: Store) -> None:
    async with process(store) as (first, waiting), process(store):
        await waiting.offer(offer("l/a", 1_000), lambda: True, 0)
        told = await asyncio.gather(*(first.offers(ALICE, {"l/a"}) for _ in range(5)))
        assert [[each.launcher for each in answer] for answer in told] == [["l/a"]] * 5


async def test_who_does_not_answer_is_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_call, "ANSWER_S", 0.1)
    async with process(store) as (first, waiting), store._server.pubsub() as silent:
        await silent.subscribe(store._keys.peers)
        await waiting.offer(offer("l/a", 1_000), lambda: True, 0)
        assert [each.launcher for each in await first.offers(ALICE, {"l/a"})] == ["l/a"]


async def test_what_nobody_understands_ends_nothing(store: Store) -> None:
    async with process(store) as (first, _), process(store) as (_, there):
        await there.offer(offer("l/b", 1_000), lambda: True, 0)
        await store._server.command("ZADD", store._keys.launchers, 1 << 50, "l/b")
        for text in (b"{", b"{}", b'["question"]', b'{"type":"question","user":1}'):
            assert await store.tell_peers(text) == 2
        assert [each.launcher for each in await first.offers(ALICE, frozenset())] == ["l/b"]


def test_of_a_launcher_that_offered_to_several_processes_the_most_counts() -> None:
    offered = [
        Offered("a", True, False, room(1_000, vcpus=4)),
        Offered("a", True, True, room(2_000)),
        Offered("b", True, False, room(500)),
        Offered("c", False, False, room(9_000)),
    ]
    assert [(each.vcpus, each.memory_mib) for each in largest_of(offered, {}).values()] == [(4, 2_000), (1, 500)]

"""Acts of many callers that go to the store together: each gets its own answer, and what they share is counted once."""

import asyncio
from itertools import pairwise

from broker.domain.errors import Conflict
from broker.store import MachineFacts, Store
from broker.store.scripts import load
from broker.wire.dispatches import DispatchRequest
from broker.wire.names import StreamRef
from broker.wire.problems import ProblemCode
from tests.integration.store.scene import ALICE, FACTS, RENDER, ROOM, Scene, lease_of, result
from tests.support.stores import StoreServer

MANY = 40
OTHER = StreamRef(ALICE, "other")
LARGE = MachineFacts(vcpus=1, memory_mib=2 * ROOM.memory_mib, firmware="bios")


async def calls_of(store: Store) -> int:
    stats = await store._server.command("INFO", "commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])


async def check_events(store: Store) -> None:
    """Check that the log's and the feed's numbers follow each other."""
    for events in (await store.read_events(RENDER, None, 1_000), await store.read_feed(ALICE, None, 1_000)):
        numbers = [int(event.place.partition("-")[2]) for event in events.events]
        assert all(after == before + 1 for before, after in pairwise(numbers))


async def two_streams(scene: Scene, items: int) -> None:
    await scene.set_up(ref=OTHER)
    for ref in (RENDER, OTHER):
        await scene.prove(ref)
        await scene.push(items, ref)


async def set_machine_elsewhere(url: str, domain_xml: str) -> None:
    """Give the stream's machine other XML as another process would."""
    other = await Store.connect(url)
    try:
        await Scene(other).set_machine(domain_xml)
    finally:
        await other.close()


async def test_many_vms_at_once_each_get_their_own_item_in_few_commands(scene: Scene) -> None:
    await scene.prove()
    await scene.push(MANY)
    given = [each for _ in range(MANY // 4) for each in await scene.offers(most=4)]
    before = await calls_of(scene.store)
    claimed = await asyncio.gather(*(scene.claim(each) for each in given))
    assert [each.item.ref for each in claimed] == [each.item.ref for each in given]
    settled = await asyncio.gather(*(scene.store.complete(lease_of(each), result()) for each in claimed))
    assert [each.item for each in settled] == [str(each.item.ref) for each in given]
    assert await calls_of(scene.store) - before < MANY / 4
    view = await scene.store.get_stream(RENDER)
    assert view is not None
    assert {state: count for state, count in view.counts.items() if count} == {"done": MANY}
    await check_events(scene.store)


async def test_acts_on_several_streams_at_once_stay_with_their_own(scene: Scene) -> None:
    await two_streams(scene, items=4)
    given = [each for _ in range(2) for each in await scene.offers(most=4)]
    await asyncio.gather(*(scene.claim(each) for each in given))
    for ref in (RENDER, OTHER):
        view = await scene.store.get_stream(ref)
        assert view is not None
        assert view.counts["running"] == 4


async def test_one_that_is_refused_takes_no_other_along(scene: Scene) -> None:
    await scene.prove()
    await scene.push(3)
    given = await scene.offers(most=3)
    claims = [
        scene.claim(given[0]),
        scene.claim(given[1]),
        scene.claim(given[1], "another guest"),
        scene.claim(given[2]),
    ]
    first, second, replayed, third = await asyncio.gather(*claims, return_exceptions=True)
    assert not isinstance(first, BaseException)
    assert not isinstance(third, BaseException)
    # Of the two that have one ticket the first one claimed; the item was then taken back from both.
    assert not isinstance(second, BaseException)
    assert isinstance(replayed, Conflict)
    assert replayed.code is ProblemCode.TICKET_REPLAYED


async def test_one_that_fails_in_the_store_takes_no_other_along(scene: Scene) -> None:
    """A record that something else wrote over."""
    await scene.prove()
    await scene.push(2)
    broken, good = await scene.offers(most=2)
    keys = scene.store._keys
    await scene.store._server.command("DEL", keys.vm(broken.dispatch))
    await scene.store._server.command("SET", keys.vm(broken.dispatch), "what no broker wrote")
    failed, claimed = await asyncio.gather(scene.claim(broken), scene.claim(good), return_exceptions=True)
    assert isinstance(failed, Exception)
    assert "WRONGTYPE" in str(failed)
    assert not isinstance(claimed, BaseException)
    assert claimed.item.ref == good.item.ref
    await check_events(scene.store)
    await scene.store._server.command("DEL", keys.vm(broken.dispatch))


async def test_a_store_that_forgot_the_scripts_is_given_them_anew(scene: Scene) -> None:
    await scene.prove()
    await scene.push(8)
    given = await scene.offers(most=8)
    await scene.store._server.command("SCRIPT", "FLUSH")
    claimed = await asyncio.gather(*(scene.claim(each) for each in given))
    assert [each.item.ref for each in claimed] == [each.item.ref for each in given]
    assert await scene.store._server.command("SCRIPT", "EXISTS", load("claim").sha1) == [1]


async def test_a_machine_that_another_process_changed_is_given_in_its_new_form(
    scene: Scene, store_server: StoreServer
) -> None:
    await scene.prove()
    await scene.push(3)
    assert (await scene.dispatched()).machine.revision == 1
    await set_machine_elsewhere(store_server.url, "<domain type='qemu'/>")
    given = await scene.dispatched()
    assert (given.machine.revision, given.machine.domain_xml) == (2, "<domain type='qemu'/>")


async def test_a_machine_that_another_process_made_smaller_fits_at_once(
    scene: Scene, store_server: StoreServer
) -> None:
    await scene.set_machine("<domain type='large'/>", facts=LARGE)
    await scene.push(1)
    assert await scene.offer() is None
    await set_machine_elsewhere(store_server.url, "<domain type='small'/>")
    assert (await scene.dispatched()).size.memory_mib == FACTS.memory_mib


async def test_one_key_twice_at_once_takes_nothing_from_other_streams(scene: Scene) -> None:
    await two_streams(scene, items=3)
    await asyncio.gather(*(scene.offer(key="one-key-for-all") for _ in range(4)))
    given = [await scene.offer() for _ in range(5)]
    assert None not in given


async def test_a_key_whose_items_are_forgotten_is_given_nothing_more(scene: Scene) -> None:
    """A launcher that waits repeats a request of an hour ago."""
    await two_streams(scene, items=1)
    request = DispatchRequest(dispatch_key="old", launcher=scene.launcher, node="n", room=ROOM, most=4)
    key = scene.store._keys.dispatch_key(scene.launcher, "old")
    await scene.store._server.command("SET", key, "00000000-0000-4000-8000-000000000000", "PX", 60_000)
    async with asyncio.timeout(5):
        assert await scene.store.dispatch(request, lambda _: True, is_heard=True) == []
    assert len(await scene.offers(most=4)) == 1 + 1


async def test_what_cannot_be_written_at_a_scripts_end_keeps_nothing_else_from_it(scene: Scene) -> None:
    """A log that something else wrote over: the items have moved by then, and are counted."""
    await scene.prove()
    await scene.push(2)
    given = await scene.offers(most=2)
    keys, server = scene.store._keys.of_stream(RENDER), scene.store._server
    await server.command("DEL", keys.events)
    await server.command("SET", keys.events, "what no broker wrote")
    answers = await asyncio.gather(*(scene.claim(each) for each in given), return_exceptions=True)
    assert all("WRONGTYPE" in str(each) for each in answers)
    await server.command("DEL", keys.events)
    assert await server.command("HMGET", keys.stream, "dispatched", "running") == ["0", "2"]
    # The guests ask again, and are given what they were.
    again = await asyncio.gather(*(scene.claim(each) for each in given))
    assert [each.item.ref for each in again] == [each.item.ref for each in given]

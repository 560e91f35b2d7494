"""Acts of many callers that go to the store together: each gets its own answer, and what they share is counted once."""

import asyncio
from itertools import pairwise

from broker.domain.errors import Conflict
from broker.store import MachineFacts, Store
from broker.store.scripts import load
from broker.wire.names import StreamRef
from broker.wire.problems import ProblemCode
from tests.integration.store.scene import ALICE, FACTS, RENDER, ROOM, Scene, lease_of, result
from tests.support.stores import StoreServer

MANY = 40
LARGE = MachineFacts(vcpus=1, memory_mib=2 * ROOM.memory_mib, firmware="bios")


async def calls_of(store: Store) -> int:
    stats = await store._server.command("INFO", "commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])


async def check_events(store: Store) -> None:
    """Check that the log's and the feed's numbers follow each other."""
    for events in (await store.read_events(RENDER, None, 1_000), await store.read_feed(ALICE, None, 1_000)):
        numbers = [int(event.place.partition("-")[2]) for event in events.events]
        assert all(after == before + 1 for before, after in pairwise(numbers))


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
    other = StreamRef(ALICE, "other")
    await scene.set_up(ref=other)
    for ref in (RENDER, other):
        await scene.prove(ref)
        await scene.push(4, ref)
    given = [each for _ in range(2) for each in await scene.offers(most=4)]
    await asyncio.gather(*(scene.claim(each) for each in given))
    for ref in (RENDER, other):
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
    other = await Store.connect(store_server.url)
    try:
        await Scene(other).set_machine("<domain type='qemu'/>")
    finally:
        await other.close()
    given = await scene.dispatched()
    assert (given.machine.revision, given.machine.domain_xml) == (2, "<domain type='qemu'/>")


async def test_a_machine_that_another_process_made_smaller_fits_at_once(
    scene: Scene, store_server: StoreServer
) -> None:
    await scene.set_machine("<domain type='large'/>", facts=LARGE)
    await scene.push(1)
    assert await scene.offer() is None
    other = await Store.connect(store_server.url)
    try:
        await Scene(other).set_machine("<domain type='small'/>")
    finally:
        await other.close()
    assert (await scene.dispatched()).size.memory_mib == FACTS.memory_mib


async def test_one_key_twice_at_once_takes_nothing_from_other_streams(scene: Scene) -> None:
    other = StreamRef(ALICE, "other")
    await scene.set_up(ref=other)
    for ref in (RENDER, other):
        await scene.prove(ref)
        await scene.push(3, ref)
    await asyncio.gather(*(scene.offer(key="one-key-for-all") for _ in range(4)))
    given = [await scene.offer() for _ in range(5)]
    assert None not in given

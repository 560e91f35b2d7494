"""How much the launchers of one token may hold at once: every way out makes room again."""

import pytest

from broker.domain.bounds import Bound
from broker.store import Bell, Ready, Store
from broker.wire.states import Verdict
from broker.wire.streams import BulkAct, BulkRequest
from tests.integration.store.listening import listening
from tests.integration.store.scene import ALICE, RENDER, Scene, failure, lease_of, result
from tests.support.stores import age
from tests.support.waiting import until

TWO = Bound("site-token", 2)


@pytest.fixture
async def scene(store: Store) -> Scene:
    scene = await Scene(store).set_up(items=10)
    await scene.prove()
    scene.bound = TWO
    return scene


async def held(scene: Scene) -> int:
    return (await scene.store.held_by([TWO.holder]))[TWO.holder]


async def test_a_token_holds_no_more_than_its_bound_however_it_asks(scene: Scene) -> None:
    assert len(await scene.offers(most=5)) == 2
    assert await scene.offers(most=5) == []
    scene.launcher = "another/of-the-same-token"
    assert await scene.offer() is None
    scene.bound = Bound("another-token", 1)
    assert await scene.offer() is not None
    assert await scene.offer() is None
    scene.bound = None
    assert len(await scene.offers(most=3)) == 3
    assert await held(scene) == 2


async def test_what_a_request_was_given_it_is_given_again_at_the_bound(scene: Scene) -> None:
    first = await scene.offers(most=2, key="again")

    assert [each.dispatch for each in await scene.offers(most=2, key="again")] == [each.dispatch for each in first]
    assert await held(scene) == 2


@pytest.mark.parametrize("way", ["completed", "failed", "ended", "cancelled", "all cancelled", "expired"])
async def test_whatever_ends_a_dispatch_makes_room_for_another(scene: Scene, way: str) -> None:
    await scene.offer()
    given = await scene.dispatched()
    assert await scene.offer() is None
    match way:
        case "completed":
            claimed = await scene.claim(given)
            await scene.store.complete(lease_of(claimed), result())
        case "failed":
            claimed = await scene.claim(given)
            await scene.store.fail(lease_of(claimed), failure())
        case "ended":
            await scene.end(given, Verdict.NEVER_CLAIMED)
        case "cancelled":
            await scene.store.cancel(given.item.ref, ALICE)
        case "all cancelled":
            await scene.store.start_bulk(RENDER, BulkAct.CANCEL, BulkRequest(), ALICE)
            while await scene.store.tick():
                pass
        case "expired":
            await age(scene.store, 121_000)
            await scene.hear()
            await scene.store.tick()
    left = 0 if way in {"all cancelled", "expired"} else 1
    assert await held(scene) == left


async def test_nothing_is_kept_of_tokens_without_a_bound(scene: Scene) -> None:
    scene.bound = None
    await scene.offer()

    assert await scene.store._server.command("EXISTS", f"{scene.store._keys.holds_of}{TWO.holder}") == 0


async def test_whoever_waits_with_the_token_is_looked_at_again_when_there_is_room(scene: Scene) -> None:
    await scene.offer()
    claimed = await scene.claim(await scene.dispatched())
    heard: list[Bell] = []
    ready = Ready(RENDER)

    async def rings() -> bool:
        await scene.push(1)
        return ready in heard

    async def rang() -> bool:
        return ready in heard

    async with listening(scene.store, heard):
        await until(rings, "the first bell")
        await _until_quiet(scene, heard)
        await scene.store.complete(lease_of(claimed), result())
        await until(rang, "a bell at a completion, which makes nothing ready")


async def _until_quiet(scene: Scene, heard: list[Bell]) -> None:
    """Return when every bell of before was heard: one that is rung now comes behind them."""
    last = Ready(RENDER._replace(name="last"))
    await scene.store._server.command("PUBLISH", scene.store._keys.ready_bell, str(last.stream))

    async def is_last() -> bool:
        return last in heard

    await until(is_last, "all bells of before")
    heard.clear()

"""The look into the store at the end of a run finds what is planted there."""

from collections.abc import AsyncIterator

import pytest

from broker.store import Store
from broker.wire.names import ItemRef
from tests.fault.keys_left import keys_left
from tests.integration.store.scene import RENDER, Scene, result
from tests.support.stores import StoreServer, connected

VM = "0" * 8 + 3 * ("-" + "0" * 4) + "-" + "0" * 12
PLANTED = [
    (("SET", "vmb:{s0}:strange", "x"), "not listed"),
    (("HSET", "vmb:{s0}:grants", "x", "1"), None),
    (("HSET", "vmb:{s0}:item:alice/render/9", "state", "done"), "its stream has 2 items"),
    (("HSET", "vmb:{s0}:item:alice/none/1", "state", "done"), "its stream has 0 items"),
    (("HSET", f"vmb:{{s0}}:vm:{VM}", "item", "alice/render/1"), "its dispatch is not over"),
    (("HSET", f"vmb:{{s0}}:vm:{VM}", "item", "alice/none/7", "over", "end"), "there is no item alice/none/7"),
    (("SET", f"vmb:{{s0}}:dispatch_key:{'0' * 64}", VM, "PX", 9_000), f"there is no dispatch {VM}"),
    (("ZADD", "vmb:{s0}:deadlines", 1, "alice/render/1"), "every item is settled"),
    (("ZADD", "vmb:{s0}:running:alice/render", 1, "1"), "every item is settled"),
    (("RPUSH", "vmb:{s0}:ready:alice/render/1", "1:0:1"), "every item is settled"),
]
"""Commands that plant a key, and what is said of it."""


@pytest.fixture
async def at_rest(embedded_server: StoreServer) -> AsyncIterator[Store]:
    """A store whose one item is done and whose other one is cancelled; what a test plants is gone afterwards."""
    async with connected(embedded_server.url) as store:
        scene = await Scene(store).set_up(items=2)
        await store.complete(await scene.running(), result())
        await store.cancel(ItemRef(RENDER, 2), "alice")
        assert await scene.offer() is None
        yield store
        await store._server.command("FLUSHALL")


async def test_a_store_at_rest_has_no_key_too_many(at_rest: Store) -> None:
    assert await keys_left(at_rest) == []


@pytest.mark.parametrize(("plant", "sentence"), PLANTED)
async def test_a_key_that_belongs_to_nothing_is_named(
    at_rest: Store, plant: tuple[str | int, ...], sentence: str | None
) -> None:
    await at_rest._server.command(*plant)
    assert await keys_left(at_rest) == ([f"{plant[1]}: {sentence}"] if sentence else [])

"""A stream whose server is told, and what those do who tell it."""

import msgspec

from broker.store import Store
from broker.store.answers import CallbackOutcome, OwedCallback
from broker.wire.callbacks import Callback, CallbackState
from broker.wire.names import ItemRef, StreamRef
from broker.wire.streams import Retry
from tests.integration.store.scene import ALICE, RENDER, SPEC, Scene

CALLBACK = Callback(url="https://hooks.example/done", secrets=("hook",))
TOLD = msgspec.structs.replace(SPEC, callback=CALLBACK, retry=Retry(attempts=1, boots=1))
FIRST = ItemRef(RENDER, 1)
MINUTE_MS = 60_000
DELIVERED = CallbackOutcome(CallbackState.DELIVERED, "", 204)
AGAIN = CallbackOutcome(CallbackState.WAITING, "it answered 500", 500, 5_000)
DEAD = CallbackOutcome(CallbackState.DEAD, "it answered 410", 410)


async def take(store: Store, most: int = 100, most_per_user: int = 100) -> list[OwedCallback]:
    return await store.take_callbacks(most, most_per_user, MINUTE_MS)


async def cancel(scene: Scene, number: int, ref: StreamRef = RENDER) -> None:
    """Settle so many new items."""
    pushed = await scene.push(number, ref)
    for each in range(number):
        await scene.store.cancel(ItemRef(ref, pushed.first + each), "alice")


async def states(scene: Scene) -> dict[str, int]:
    return (await scene.store.list_callbacks(ALICE, None, None, 10)).counts

"""The one look into the store: at the end of a run no key is of an unknown kind, and none belongs to nothing."""

from typing import Final

from broker.store import Store
from broker.store.keys import Keys
from broker.wire.names import DispatchId, StreamRef, parse_item
from tests.support.stores import PREFIX, unexpected_keys

_EMPTY_AT_REST: Final = frozenset(
    {
        "ring",
        "ring:USER",
        "deadlines",
        "due",
        "ready:USER/NAME",
        "ready:USER/NAME/LANE",
        "delayed:USER/NAME",
        "dispatched:USER/NAME",
        "running:USER/NAME",
    }
)
"""Kinds of keys that are there only while an item is not settled."""


async def keys_left(store: Store) -> list[str]:
    """Return a sentence for each key that should not be in a store all of whose items are settled."""
    left = await unexpected_keys(store)
    for key in sorted(await store._server.command("KEYS", "*")):
        reason = await _reason(store, key)
        left += [f"{key}: {reason}"] if reason else []
    return left


async def _reason(store: Store, key: str) -> str | None:
    """Return why a key should not be there; those of unknown kinds are told already."""
    keys, server = Keys(PREFIX), store._server
    kind = keys.kind_of(key)
    if kind is None:
        return None
    if kind.name in _EMPTY_AT_REST:
        return "every item is settled"
    match kind.name:
        case "item:USER/NAME/NUMBER":
            item = parse_item(key.partition("item:")[2], None)
            last = await _last(store, item.stream)
            return None if item.number <= last else f"its stream has {last} items"
        case "vm:DISPATCH":
            item_name, over = await server.command("HMGET", key, "item", "over")
            if over is None:
                return "its dispatch is not over"
            is_known = await server.command("EXISTS", keys.item(parse_item(item_name, None)))
            return None if is_known else f"there is no item {item_name}"
        case "dispatch_key:SHA256":
            dispatch = await server.command("GET", key)
            is_known = await server.command("EXISTS", keys.vm(DispatchId(dispatch)))
            return None if is_known else f"there is no dispatch {dispatch}"
    return None


async def _last(store: Store, stream: StreamRef) -> int:
    return int(await store._server.command("HGET", store._keys.of_stream(stream).stream, "last") or 0)

"""Reads that several acts share. Definitions are immutable by revision, so they are kept in memory once read."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from broker.domain.deadlines import DEFAULT, Deadlines
from broker.domain.errors import Conflict, Unavailable
from broker.store.keys import Keys
from broker.store.records import Hash, item_ref, item_view, vm_view
from broker.store.remembered import Remembered
from broker.store.server import Server
from broker.wire.items import ItemView, VmView
from broker.wire.machines import MachineView
from broker.wire.names import DispatchId, ItemRef, MachineRef, StreamRef
from broker.wire.problems import ProblemCode
from broker.wire.streams import StreamSpec

TRIES = 5
"""How often an act is decided anew when the item changed under the decision."""
_KEPT_DEFINITIONS = 64
"""A machine's XML may have half a megabyte."""
_KEPT_DISPATCHES = 10_000
"""Most are claimed where they were given out, and soon."""
_SEEN_REVISIONS = 10_000
"""Streams whose latest spec's number is remembered."""

T = TypeVar("T")


class Reading:
    """A connected store, and what every part of it reads."""

    def __init__(self, server: Server, keys: Keys, deadlines: Deadlines = DEFAULT) -> None:
        self._server = server
        self._keys = keys
        self._deadlines = deadlines
        self._definitions: Remembered[tuple[str, int], Any] = Remembered(_KEPT_DEFINITIONS)
        self._items_of: Remembered[DispatchId, ItemRef] = Remembered(_KEPT_DISPATCHES)
        self._seen_revisions: Remembered[StreamRef, int] = Remembered(_SEEN_REVISIONS)

    async def _now_ms(self) -> int:
        """Return the store's time."""
        seconds, microseconds = await self._server.command("TIME")
        return int(seconds) * 1_000 + int(microseconds) // 1_000

    async def _item(self, ref: ItemRef) -> Hash:
        """Return the item's record; empty when there is none."""
        item: Hash = await self._server.command("HGETALL", self._keys.item(ref))
        return item

    async def _vm(self, dispatch: DispatchId) -> Hash:
        """Return the vm's record; empty when there is none, or no more."""
        vm: Hash = await self._server.command("HGETALL", self._keys.vm(dispatch))
        return vm

    async def _item_of(self, dispatch: DispatchId) -> ItemRef | None:
        """Return the item that the dispatch was for; it never changes."""
        if dispatch in self._items_of:
            return self._items_of[dispatch]
        name = await self._server.command("HGET", self._keys.vm(dispatch), "item")
        if name is None:
            return None
        self._items_of.keep(dispatch, item_ref(name))
        return self._items_of[dispatch]

    async def _views(self, items: list[tuple[ItemRef, Hash]]) -> list[ItemView]:
        """Return the views of items, each with its last vm, in one round trip."""
        lasts = sorted({item["last"] for _, item in items if "last" in item})
        vms = await self._server.commands([("HGETALL", self._keys.vm(DispatchId(last))) for last in lasts])
        views: dict[str, VmView] = {
            last: vm_view(DispatchId(last), vm) for last, vm in zip(lasts, vms, strict=True) if vm
        }
        return [item_view(ref, item, views.get(item.get("last", ""))) for ref, item in items]

    async def _spec(self, ref: StreamRef, revision: int) -> StreamSpec:
        """Return the spec of a stream's revision that is known to be there."""
        return await self._definition(self._keys.of_stream(ref).specs, revision, StreamSpec)

    def _kept_spec(self, ref: StreamRef, revision: int) -> StreamSpec | None:
        """Return the spec if it was read before and is still in memory."""
        return self._definitions.get((self._keys.of_stream(ref).specs, revision))

    async def _machine(self, ref: MachineRef, revision: int) -> MachineView:
        """Return the definition of a machine's revision that is known to be there."""
        return await self._definition(self._keys.machine(ref), revision, MachineView)

    async def _definition(self, key: str, revision: int, type_: type[T]) -> T:
        if (key, revision) not in self._definitions:
            text = await self._server.command("HGET", key, revision)
            self._definitions.keep((key, revision), msgspec.json.decode(text, type=type_))
        kept: T = self._definitions[key, revision]
        return kept

    async def _definitions_of(self, wanted: Sequence[tuple[str, int]], type_: type[T]) -> list[T]:
        """Return definitions that are known to be there, in one round trip.

        What is read here is not kept: it may be far more than is, and dispatching needs those.
        """
        found: dict[tuple[str, int], T] = {
            each: self._definitions[each] for each in wanted if each in self._definitions
        }
        missing = [each for each in dict.fromkeys(wanted) if each not in found]
        texts = await self._server.commands([("HGET", key, revision) for key, revision in missing])
        found |= {each: msgspec.json.decode(text, type=type_) for each, text in zip(missing, texts, strict=True)}
        return [found[each] for each in wanted]


def lease_lost() -> Conflict:
    return Conflict(ProblemCode.LEASE_LOST, "the item is no longer this vm's: stop, and upload nothing")


def kept_changing() -> Unavailable:
    return Unavailable(ProblemCode.STORE_UNAVAILABLE, "the item changed while it was being decided upon; try again")

"""Acts on many items of a stream at once: cancel, hold, release, and the purge of all of it.

A stream may have a million items, and no script may take that long. So an act on all of them is noted first: from that
moment whatever would be given out, claimed or completed is looked at as if the act had been done to it. Then it is
carried out part by part, at the clock's ticks, by whichever process comes first; what was done so far is kept with the
stream, and a restart goes on from there. One such act at a time; only a purge takes another's place.

A purge stops all items, gives the vms that had some a launcher's grace to hear of it, then removes the items and the
stream.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from uuid import uuid4

from broker.domain.errors import Conflict, Rejected
from broker.domain.limits import LIMITS
from broker.domain.quotas import owed_too_much
from broker.store import arguments
from broker.store.acts import CANCELLED_CODE, HELD_CODE, said_by
from broker.store.forgetting import Forgetting, Forgotten
from broker.store.items import no_stream
from broker.store.records import Hash, first_revision
from broker.store.scripts import Word
from broker.store.server import Reply
from broker.wire.names import ItemRef, StreamRef, parse_owned
from broker.wire.problems import ProblemCode
from broker.wire.states import ItemState
from broker.wire.streams import BulkAct, BulkRequest

PART_ITEMS = 500
"""One part acts on at most so many items."""
_PURGED_AT_ONCE = 100

MAY: dict[BulkAct, tuple[ItemState, ...]] = {
    BulkAct.CANCEL: (ItemState.DELAYED, ItemState.READY, ItemState.DISPATCHED, ItemState.RUNNING, ItemState.HELD),
    BulkAct.HOLD: (ItemState.DELAYED, ItemState.READY),
    BulkAct.RELEASE: (ItemState.HELD,),
    BulkAct.PURGE: (ItemState.DELAYED, ItemState.READY, ItemState.DISPATCHED, ItemState.RUNNING, ItemState.HELD),
}
"""The states that each act can be done in."""


class _Going(NamedTuple):
    """A bulk act that goes on."""

    ref: StreamRef
    record: Hash

    @property
    def act(self) -> BulkAct:
        return BulkAct(self.record["act"])

    @property
    def is_through(self) -> bool:
        """Every item was looked at."""
        return int(self.record["next"]) > int(self.record["upto"])

    def common(self) -> dict[str, str]:
        return {"user": self.ref.user, "job": self.ref.name, "id": self.record["id"]}


class Bulk(Forgetting):
    async def start_bulk(self, ref: StreamRef, act: BulkAct, request: BulkRequest, by: str) -> None:
        """Begin an act on all items of a stream that are in one of the states; the same one again changes nothing.

        It is carried out by `tick`, a purge's end by `forget`.

        Raises:
            Rejected: no such stream, a state in which the act cannot be done, or QUOTA_EXCEEDED: its user's servers
                are owed too much for a release.
            Conflict: BULK_BUSY: another one goes on.
        """
        states = request.states or MAY[act]
        wrong = [state for state in states if state not in MAY[act]]
        if wrong:
            may = ", ".join(MAY[act])
            raise Rejected(ProblemCode.BAD_REQUEST, f"states: an item that is {wrong[0]} cannot be {_PAST[act]}: {may}")
        limit = LIMITS["bulk_rate"]
        if not 0 <= request.rate <= limit.default:
            raise Rejected(limit.problem, f"rate is a number of items a second up to {limit.default}; 0 for no bound")
        reply = await self._server.act(
            arguments.StartBulk(
                user=ref.user,
                job=ref.name,
                id=uuid4().hex,
                act=act.value,
                states=f",{','.join(sorted(set(states)))},",
                code=_CODES.get(act, CANCELLED_CODE),
                sentence=said_by(by, _PAST[act], request.reason),
                by=by,
                rate=request.rate,
                most_owed=LIMITS["callbacks_waiting"].default,
            ),
            self._keys.of_stream(ref),
        )
        match reply.word:
            case Word.MISSING:
                raise no_stream(ref)
            case Word.FULL:
                raise owed_too_much(ref.user, int(reply.values[0]))
            case Word.BUSY:
                raise Conflict(
                    ProblemCode.BULK_BUSY,
                    f"a {reply.values[0]} of {ref} goes on: wait for its end, `broker status {ref}` shows it",
                )

    async def step_bulk(self, ref: StreamRef, now_ms: int) -> int:
        """Do the next part of a stream's bulk act; return how many items were looked at."""
        going = await self._going(ref)
        if going is None:
            return 0
        if going.is_through:
            return await self._end(going)
        most = _allowance(going.record, now_ms)
        if most <= 0:
            return 0
        reply = await self._part(going, most)
        return max(0, int(reply.values[0]) - int(going.record["next"])) if reply.word == Word.DONE else 0

    async def purge_part(self, ref: StreamRef, now_ms: int, clear: Callable[[Forgotten], Awaitable[None]]) -> int:
        """Remove the next items of a stream that is purged, and at the end the stream; return how many were removed."""
        going = await self._going(ref)
        if going is None or going.act is not BulkAct.PURGE or not going.is_through:
            return 0
        record = going.record
        is_begun = "removed" in record
        if not is_begun and record["had_vm"] != "0":
            told_ms = int(record["stepped_ms"]) + self._deadlines.launcher_grace_ms
            if now_ms < told_ms:
                return 0
        return await self._remove_items(going, clear)

    async def _remove_items(self, going: _Going, clear: Callable[[Forgotten], Awaitable[None]]) -> int:
        begin, upto = int(going.record.get("removed", int(going.record["first"]) - 1)) + 1, int(going.record["upto"])
        if begin > upto:
            await self._remove_stream(going)
            return 0
        refs = [ItemRef(going.ref, number) for number in range(begin, min(begin + _PURGED_AT_ONCE, upto + 1))]
        for each in refs:
            await clear(Forgotten(each, await self._dispatches(each)))
        rest = tuple(str(each.number) for each in refs)
        await self._server.act(arguments.PurgeMany(**going.common(), rest=rest), self._keys.of_stream(going.ref))
        return len(refs)

    async def _remove_stream(self, going: _Going) -> None:
        keys = self._keys.of_stream(going.ref)
        last, first = await self._server.command("HMGET", keys.stream, "revision", "first_revision")
        revisions = range(first_revision(first), int(last or 0) + 1)
        specs = [await self._spec(going.ref, revision) for revision in revisions]
        machines = {str(parse_owned(spec.machine, going.ref.user, "machine")) for spec in specs}
        await self._server.act(
            arguments.RemoveStream(**going.common(), rest=tuple(sorted(machines))),
            keys,
            machine_streams_of=self._keys.machine_streams(""),
        )

    async def _going(self, ref: StreamRef) -> _Going | None:
        record = await self._server.command("HGETALL", self._keys.of_stream(ref).bulk)
        return _Going(ref, record) if record and "over_ms" not in record else None

    async def _part(self, going: _Going, most: int) -> Reply:
        record, keys = going.record, self._keys.of_stream(going.ref)
        whose = (going.ref.user, going.ref.name, record["id"], int(record["next"]), most)
        match going.act:
            case BulkAct.CANCEL | BulkAct.PURGE:
                return await self._server.act(arguments.CancelMany(*whose, record["code"], record["sentence"]), keys)
            case BulkAct.HOLD:
                return await self._server.act(arguments.HoldMany(*whose, record["code"], record["sentence"]), keys)
            case BulkAct.RELEASE:
                return await self._server.act(arguments.ReleaseMany(*whose), keys)

    async def _end(self, going: _Going) -> int:
        """Drop what is left of stopped items in the ready lists, then end the act; a purge goes on in `purge_part`."""
        keys = self._keys.of_stream(going.ref)
        for lane in await self._server.command("ZRANGE", keys.ready, 0, -1):
            reply = await self._server.act(arguments.TrimReady(lane=lane), keys)
            if reply.word == Word.AGAIN:
                return PART_ITEMS
        if going.act is not BulkAct.PURGE:
            await self._server.act(arguments.EndBulk(**going.common()), keys)
        return 0


_PAST = {BulkAct.CANCEL: "cancelled", BulkAct.HOLD: "held", BulkAct.RELEASE: "released", BulkAct.PURGE: "purged"}
_CODES = {BulkAct.HOLD: HELD_CODE}


def _allowance(record: Hash, now_ms: int) -> int:
    """Return how many items the next part may act on, by the rate that was asked for."""
    rate = int(record["rate"])
    if not rate:
        return PART_ITEMS
    so_far = rate * (now_ms - int(record["started_ms"]) + 1_000) // 1_000
    return min(PART_ITEMS, so_far - int(record["acted"]))

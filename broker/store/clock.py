"""The clock's acts: delayed items become ready, overdue dispatches and leases end, settled items are forgotten.

Only the store's time decides. After an absence nothing expires for as long as the absence was, and no launcher counts
as gone for a whole grace, so that a broker or store that was away throws no running work away.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from broker.domain import deadlines
from broker.domain.lifecycle import Act, OverCode
from broker.domain.retry import Cause
from broker.store import arguments
from broker.store.bulk import Bulk
from broker.store.forgetting import Forgotten
from broker.store.outcomes import LAUNCHER_SILENT, SLOT_BOUND, decide, slot_ended
from broker.store.records import Hash, item_ref
from broker.store.scripts import Word
from broker.wire.names import DispatchId, ItemRef, parse_owned
from broker.wire.states import ItemState

MAX_PROMOTED = 500
MAX_EXPIRED = 100
"""One tick moves at most so many; the next one goes on."""


MAX_BULKS = 10


class _Seen(NamedTuple):
    """The item and its vm as they were when the clock looked, at `now_ms`."""

    now_ms: int
    item: Hash
    vm: Hash
    is_launcher_gone: bool
    lease_ms: int


class Clock(Bulk):
    has_bulk = False
    """Whether an act on a whole stream went on at the last tick: a purge ends in `forget`."""

    async def tick(self) -> int:
        """Move what is due, at most a bounded number; return how many items moved.

        Call it every second: a pause of more than five seconds counts as an absence. Any number of processes may.

        Raises:
            Unavailable: tick again.
        """
        reply = await self._server.act(
            arguments.Tick(
                away_ms=deadlines.AWAY_MS,
                lease_ms=self._deadlines.lease_ms,
                most_promoted=MAX_PROMOTED,
                most_expired=MAX_EXPIRED,
            ),
            clock=self._keys.clock,
            due=self._keys.due,
            deadlines=self._keys.deadlines,
            bulks=self._keys.bulks,
        )
        now_ms, back_ms, due, overdue, bulks = reply.values
        moved = 0
        self.has_bulk = bool(bulks)
        for name in due:
            moved += await self._promote(item_ref(name))
        for name in overdue:
            moved += await self._expire(item_ref(name), int(now_ms), int(back_ms))
        for name in bulks:
            moved += await self.step_bulk(parse_owned(name, None, "stream"), int(now_ms))
        return moved

    async def forget(self, clear: Callable[[Forgotten], Awaitable[None]]) -> int:
        """Forget items whose stream's `keep` is over or that are purged, at most a bounded number; return how many.

        First `clear` removes what is kept of an item elsewhere: should the broker end in between, it is called again.

        Raises:
            Unavailable: call again.
        """
        now_ms = await self._now_ms()
        forgotten = await self._forget_past(now_ms, clear)
        for name in await self._server.command("ZRANGE", self._keys.bulks, 0, MAX_BULKS - 1):
            forgotten += await self.purge_part(parse_owned(name, None, "stream"), now_ms, clear)
        return forgotten

    async def _promote(self, ref: ItemRef) -> bool:
        reply = await self._server.act(
            arguments.Promote(user=ref.stream.user, job=ref.stream.name, number=str(ref.number)),
            self._keys.of_stream(ref.stream),
        )
        return reply.word == Word.DONE

    async def _expire(self, ref: ItemRef, now_ms: int, back_ms: int) -> bool:
        """Expire one item; False when it moved or was extended since: the next tick looks again."""
        item = await self._item(ref)
        if "dispatch" not in item:
            return False
        dispatch = DispatchId(item["dispatch"])
        vm = await self._vm(dispatch)
        heard = int(float(await self._server.command("ZSCORE", self._keys.launchers, vm["launcher"]) or 0))
        gone = now_ms - max(heard, back_ms) > self._deadlines.launcher_grace_ms
        act, cause = _judge(_Seen(now_ms, item, vm, gone, self._deadlines.lease_ms))
        spec = await self._spec(ref.stream, int(item["revision"]))
        reply = await self._server.act(
            arguments.Expire(
                user=ref.stream.user,
                job=ref.stream.name,
                number=str(ref.number),
                dispatch=dispatch,
                launcher=vm["launcher"],
                heard_ms=heard,
                **decide(act, spec, item, cause)._asdict(),
            ),
            self._keys.of_stream(ref.stream),
        )
        return reply.word == Word.DONE


def _judge(seen: _Seen) -> tuple[Act, Cause]:
    if seen.item["state"] == ItemState.RUNNING:
        return _judge_running(seen)
    return Act.GIVE_BACK, _judge_dispatched(seen)


def _judge_dispatched(seen: _Seen) -> Cause:
    launcher, node = seen.vm["launcher"], seen.vm["node"]
    if "boot_until_ms" not in seen.item:
        return Cause(LAUNCHER_SILENT, f"launcher {launcher} took the item and was not heard of it again")
    if seen.now_ms >= int(seen.item["boot_until_ms"]):
        return Cause("boot_expired", f"the vm on {node} did not claim the item in time")
    return Cause(LAUNCHER_SILENT, f"launcher {launcher} went silent before its vm on {node} claimed the item")


def _judge_running(seen: _Seen) -> tuple[Act, Cause]:
    launcher, node = seen.vm["launcher"], seen.vm["node"]
    if seen.is_launcher_gone:
        return Act.GIVE_BACK, Cause(LAUNCHER_SILENT, f"launcher {launcher} and its vm on {node} went silent")
    if seen.now_ms >= (run_until_ms := int(seen.item["run_until_ms"])):
        if seen.item.get("run_bound") == SLOT_BOUND:
            return Act.GIVE_BACK, slot_ended(node)
        limit_s = (run_until_ms - int(seen.item["claimed_ms"])) // 1000
        return Act.FAIL, Cause(OverCode.RUN_TIMEOUT, f"it ran longer than the stream's limit of {limit_s} s")
    lease_s = seen.lease_ms // 1000
    return Act.FAIL, Cause(OverCode.LEASE_EXPIRED, f"the vm on {node} was not heard for {lease_s} s")

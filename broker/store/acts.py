"""What a researcher does to one item, or to a stream as a whole in one step: cancel, hold, release, pause, resume."""

import msgspec

from broker.domain.errors import Conflict
from broker.domain.limits import LIMITS
from broker.domain.quotas import owed_too_much
from broker.store.arguments import Cancel, Hold, Pause, Release, Resume
from broker.store.items import Items, no_item, no_stream, purging
from broker.store.scripts import Word
from broker.wire.items import CancelledItem, ItemView
from broker.wire.names import ItemRef, StreamRef
from broker.wire.problems import ProblemCode

CANCELLED_CODE = "cancelled"
HELD_CODE = "held_by_user"
PAUSED_CODE = "paused_by_user"


class Acts(Items):
    async def cancel(self, ref: ItemRef, by: str) -> CancelledItem:
        """Stop an item for good, at once, whoever has it; its vm is told at its next extend. Its reason says `by` whom.

        Idempotent.

        Raises:
            Rejected: there is no such item.
            Conflict: SETTLED: it is done.
            Unavailable: it may or may not have been done; repeat it.
        """
        keep_ms = await self._keep_ms(ref)
        reply = await self._server.act(
            Cancel(
                user=ref.stream.user,
                job=ref.stream.name,
                number=str(ref.number),
                code=CANCELLED_CODE,
                sentence=f"{by} cancelled it",
                keep_ms=keep_ms,
            ),
            self._keys.of_stream(ref.stream),
        )
        match reply.word:
            case Word.SETTLED:
                raise Conflict(ProblemCode.SETTLED, f"{ref} is done already: there is nothing to cancel")
            case Word.MISSING:
                raise no_item(ref)
        view = await self.get_item(ref)
        if view is None:
            raise no_item(ref)
        return CancelledItem(**msgspec.structs.asdict(view), had_vm=reply.values[0] == 1)

    async def hold(self, ref: ItemRef, by: str, reason: str = "") -> ItemView:
        """Set a ready or delayed item aside until it is released. Idempotent: of a held one the first reason stands.

        Raises:
            Rejected: there is no such item.
            Conflict: SETTLED: it is done or cancelled; GIVEN_OUT: a vm has it.
            Unavailable: it may or may not have been done; repeat it.
        """
        keep_ms = await self._keep_ms(ref)
        reply = await self._server.act(
            Hold(
                user=ref.stream.user,
                job=ref.stream.name,
                number=str(ref.number),
                code=HELD_CODE,
                sentence=said_by(by, "held", reason),
                keep_ms=keep_ms,
            ),
            self._keys.of_stream(ref.stream),
        )
        return await self._after(ref, reply.word, "hold")

    async def release(self, ref: ItemRef) -> ItemView:
        """Put a held item back to the ready ones, its counters reset. Idempotent: an unsettled one stays as it is.

        Raises:
            Rejected: there is no such item; QUOTA_EXCEEDED: its user's servers are owed too much.
            Conflict: SETTLED: it is done or cancelled.
            Unavailable: it may or may not have been done; repeat it.
        """
        reply = await self._server.act(
            Release(
                user=ref.stream.user,
                job=ref.stream.name,
                number=str(ref.number),
                most_owed=LIMITS["callbacks_waiting"].default,
            ),
            self._keys.of_stream(ref.stream),
        )
        if reply.word is Word.FULL:
            raise owed_too_much(ref.stream.user, int(reply.values[0]))
        return await self._after(ref, reply.word, "release")

    async def pause(self, ref: StreamRef, by: str, reason: str = "") -> None:
        """Let a stream give nothing out; what is out goes on. Idempotent: the first reason stands.

        Raises:
            Rejected: no such stream.
        """
        reply = await self._server.act(
            Pause(user=ref.user, job=ref.name, code=PAUSED_CODE, sentence=said_by(by, "paused", reason)),
            self._keys.of_stream(ref),
        )
        if reply.word == Word.MISSING:
            raise no_stream(ref)

    async def resume(self, ref: StreamRef, by: str) -> None:
        """Let a paused stream give out again. Idempotent.

        Raises:
            Rejected: no such stream.
            Conflict: PURGING.
        """
        reply = await self._server.act(Resume(user=ref.user, job=ref.name, by=by), self._keys.of_stream(ref))
        match reply.word:
            case Word.MISSING:
                raise no_stream(ref)
            case Word.PURGING:
                raise purging(ref)

    async def _keep_ms(self, ref: ItemRef) -> int:
        """Return how long the item is kept once it is settled.

        Raises:
            Rejected: there is no such item.
        """
        revision = await self._server.command("HGET", self._keys.item(ref), "revision")
        if revision is None:
            raise no_item(ref)
        return (await self._spec(ref.stream, int(revision))).keep_ms

    async def _after(self, ref: ItemRef, word: Word, act: str) -> ItemView:
        match word:
            case Word.SETTLED:
                raise Conflict(ProblemCode.SETTLED, f"{ref} is done or cancelled: there is nothing to {act}")
            case Word.GIVEN:
                raise Conflict(ProblemCode.GIVEN_OUT, f"a vm has {ref}: cancel it, or wait until it comes back")
        view = await self.get_item(ref) if word is not Word.MISSING else None
        if view is None:
            raise no_item(ref)
        return view


def said_by(by: str, act: str, reason: str) -> str:
    """Return the sentence that is shown of what a person did."""
    return f"{by} {act} it: {reason}" if reason else f"{by} {act} it"

"""What a guest does: claim the item with its ticket, keep the lease, say how it went, once."""

import hashlib

from broker.domain.errors import Conflict
from broker.domain.lifecycle import Act
from broker.domain.retry import Cause, is_give_back
from broker.store import arguments
from broker.store.answers import Claimed, Lease
from broker.store.outcomes import LATE_RESULT, SLOT_BOUND, decide, slot_ended
from broker.store.reading import TRIES, Reading, kept_changing, lease_lost
from broker.store.records import MAX_FACT_CHARS, Hash, bounded_facts, encode_json, given_item, kept_item
from broker.store.scripts import Word
from broker.wire.items import OutputFile
from broker.wire.leases import CompleteRequest, FailRequest, LeaseExtended, Settled
from broker.wire.names import DispatchId, ItemRef
from broker.wire.problems import ProblemCode
from broker.wire.states import FailureCode, Instruction, ItemState
from broker.wire.streams import KEEP_MS, Limits

_GUESTS_WORDS = frozenset({"fail", "give_back"})


class Leases(Reading):
    async def claim(
        self, dispatch: DispatchId, *, claim_key_hash: str, nonce_hash: str, guest_os: str, client: str
    ) -> Claimed:
        """Exchange a ticket for its item and a lease, once; repeatable with the same claim key until the first extend.

        Another claim key on a live dispatch means that somebody else has the ticket: the lease is revoked and the
        item given back, whoever was first.

        Raises:
            Conflict: TICKET_REPLAYED as above; TICKET_SPENT when the dispatch is over or the claim too late to repeat.
            Unavailable: repeat with the same claim key.
        """
        ref = await self._item_of(dispatch)
        if ref is None:
            raise _spent()
        reply = await self._server.act(
            arguments.Claim(
                user=ref.stream.user,
                job=ref.stream.name,
                number=str(ref.number),
                dispatch=dispatch,
                claim_key=claim_key_hash,
                nonce=nonce_hash,
                lease_ms=self._deadlines.lease_ms,
                run_ms=Limits().run_ms,
                grace_ms=self._deadlines.launcher_grace_ms,
                guest_os=guest_os[:MAX_FACT_CHARS],
                client=client[:MAX_FACT_CHARS],
            ),
            self._keys.of_stream(ref.stream),
        )
        match reply.word:
            case Word.SPENT:
                raise _spent()
            case Word.REPLAYED:
                await self._revoke(ref, dispatch)
                raise Conflict(
                    ProblemCode.TICKET_REPLAYED,
                    "this ticket was used with another claim key: the item was taken back, and neither may go on",
                )
        *numbers, url, params, inputs = reply.values
        fence, deadline_in_ms, run_ms, revision = (int(value) for value in numbers)
        spec = await self._spec(ref.stream, revision)
        return Claimed(dispatch, given_item(ref, revision, url, params, inputs), fence, spec, deadline_in_ms, run_ms)

    async def leased(self, lease: Lease, *, or_late: bool = False) -> Claimed:
        """Return what the lease is for; reads only.

        With `or_late` also for a lease that expired while nobody was given the item since: `complete` still takes it.

        Raises:
            Conflict: LEASE_LOST when the item is no longer its own.
        """
        item, deadline, now = await self._server.commands(
            [
                ("HGETALL", self._keys.item(lease.item)),
                ("ZSCORE", self._keys.deadlines, str(lease.item)),
                ("TIME",),
            ],
            atomic=True,
        )
        if not _holds(lease, item) and not (or_late and _held_last(lease, item)):
            raise lease_lost()
        deadline_in_ms = max(0, int(float(deadline or 0)) - int(now[0]) * 1000 - int(now[1]) // 1000)
        revision = int(item["revision"])
        given = kept_item(lease.item, item)
        spec = await self._spec(lease.item.stream, revision)
        run_ms = int(item.get("may_run", spec.limits.run_ms))
        return Claimed(DispatchId(item["last"]), given, int(item["fence"]), spec, deadline_in_ms, run_ms)

    async def is_last(self, lease: Lease) -> bool:
        """Tell whether the item was given to nobody since this lease, which may be over."""
        return bool(await self._server.command("HGET", self._keys.item(lease.item), "fence") == str(lease.fence))

    async def extend(self, lease: Lease, progress: str) -> LeaseExtended:
        """Push the lease's deadline back, never past the run limit; `progress` is shown with the vm.

        Answers `drain` when its launcher will soon destroy the vm, `cancel` when the item was cancelled while its own.

        Raises:
            Conflict: LEASE_LOST when the item is no longer its own: stop.
            Unavailable: go on working, repeat at the next heartbeat.
        """
        ref = lease.item
        reply = await self._server.act(
            arguments.Extend(
                user=ref.stream.user,
                job=ref.stream.name,
                number=str(ref.number),
                fence=lease.fence,
                nonce=lease.nonce_hash,
                lease_ms=self._deadlines.lease_ms,
                progress=progress[:MAX_FACT_CHARS],
            ),
            self._keys.of_stream(ref.stream),
        )
        match reply.word:
            case Word.LOST:
                raise lease_lost()
            case Word.CANCELLED:
                return LeaseExtended(instruction=Instruction.CANCEL)
        instruction = Instruction.DRAIN if reply.word == Word.DRAINING else Instruction.CONTINUE
        return LeaseExtended(instruction=instruction, deadline_in_ms=int(reply.values[0]))

    async def complete(self, lease: Lease, request: CompleteRequest) -> Settled:
        """Accept the item's result, exactly once; the same result by the same lease again gets the same answer.

        An item that expired and that nobody was given since is still settled by it.

        Raises:
            Conflict: LEASE_LOST when the item is no longer its own; RESULT_DIFFERS when it completed with others.
            Unavailable: repeat it.
        """
        ref = lease.item
        reply = await self._server.act(
            arguments.Complete(
                user=ref.stream.user,
                job=ref.stream.name,
                number=str(ref.number),
                fence=lease.fence,
                nonce=lease.nonce_hash,
                result=_result_digest(request.outputs),
                outputs=encode_json(request.outputs),
                exit_code=request.exit_code,
                keep_ms=KEEP_MS,
                said=LATE_RESULT,
                rest=bounded_facts(request.facts),
            ),
            self._keys.of_stream(ref.stream),
        )
        match reply.word:
            case Word.LOST:
                raise lease_lost()
            case Word.DIFFERS:
                raise Conflict(
                    ProblemCode.RESULT_DIFFERS, "this item was completed with other outputs before; those stand"
                )
        return Settled(item=str(ref), state=ItemState.DONE)

    async def fail(self, lease: Lease, request: FailRequest) -> Settled:
        """End a failed attempt: tried again later, or held; exit status 75 gives back without counting it.

        Idempotent: the same lease again gets the same answer.

        Raises:
            Conflict: LEASE_LOST when the item is no longer its own.
            Unavailable: repeat it.
        """
        ref = lease.item
        for _ in range(TRIES):
            item = await self._item(ref)
            if _ended_by_guest(lease, item):
                return Settled(item=str(ref), state=item["closed_state"])
            if not _holds(lease, item):
                raise lease_lost()
            if (state := await self._end_attempt(ref, item, request)) is not None:
                return Settled(item=str(ref), state=state)
        raise kept_changing()

    async def _end_attempt(self, ref: ItemRef, item: Hash, request: FailRequest) -> str | None:
        """Do what the failure means; None when the item changed meanwhile."""
        spec = await self._spec(ref.stream, int(item["revision"]))
        act, cause = await self._judge(item, request)
        decision = decide(act, spec, item, cause)
        common = {
            "user": ref.stream.user,
            "job": ref.stream.name,
            "number": str(ref.number),
            "dispatch": DispatchId(item["dispatch"]),
            "rest": bounded_facts(request.facts),
            **decision._asdict(),
        }
        script = arguments.GiveBack(act="give_back", **common) if act is Act.GIVE_BACK else arguments.Fail(**common)
        reply = await self._server.act(script, self._keys.of_stream(ref.stream))
        return decision.to if reply.word == Word.DONE else None

    async def _judge(self, item: Hash, request: FailRequest) -> tuple[Act, Cause]:
        if request.code is FailureCode.RUN_TIMEOUT and item.get("run_bound") == SLOT_BOUND:
            node = await self._server.command("HGET", self._keys.vm(DispatchId(item["dispatch"])), "node")
            return Act.GIVE_BACK, slot_ended(node)
        cause = Cause(request.code.value, request.sentence, request.exit_code)
        return Act.GIVE_BACK if is_give_back(request.exit_code) else Act.FAIL, cause

    async def _revoke(self, ref: ItemRef, dispatch: DispatchId) -> None:
        """Take the item back from whoever claimed it with this ticket, unless it is over by then."""
        cause = Cause("ticket_replayed", "its ticket was used twice with different claim keys")
        for _ in range(TRIES):
            item = await self._item(ref)
            if item.get("dispatch") != dispatch:
                return
            spec = await self._spec(ref.stream, int(item["revision"]))
            reply = await self._server.act(
                arguments.GiveBack(
                    user=ref.stream.user,
                    job=ref.stream.name,
                    number=str(ref.number),
                    dispatch=dispatch,
                    act="revoke",
                    rest=(),
                    **decide(Act.GIVE_BACK, spec, item, cause)._asdict(),
                ),
                self._keys.of_stream(ref.stream),
            )
            if reply.word == Word.DONE:
                return
        raise kept_changing()


def _holds(lease: Lease, item: Hash) -> bool:
    is_its_own = item.get("nonce") == lease.nonce_hash and item["fence"] == str(lease.fence)
    return is_its_own and item["state"] == ItemState.RUNNING


def _ended_by_guest(lease: Lease, item: Hash) -> bool:
    is_its_own = item.get("closed") == lease.nonce_hash and item.get("closed_fence") == str(lease.fence)
    return is_its_own and item["closed_act"] in _GUESTS_WORDS


def _held_last(lease: Lease, item: Hash) -> bool:
    is_nobodys = item.get("state") in {ItemState.READY, ItemState.DELAYED} and item.get("fence") == str(lease.fence)
    return is_nobodys and item.get("closed") == lease.nonce_hash and item["closed_act"] == "expire"


def _result_digest(outputs: list[OutputFile]) -> str:
    """Return what makes two results the same: names, sizes and digests, in any order."""
    rows = sorted((each.name, each.size_bytes, each.digest) for each in outputs)
    return hashlib.sha256(encode_json(rows).encode()).hexdigest()


def _spent() -> Conflict:
    return Conflict(ProblemCode.TICKET_SPENT, "this ticket's dispatch is over: a new vm gets a new ticket")

"""What a launcher does: take an item, tell its vm's phases, show that it attends, say how the vm ended."""

from collections.abc import Callable
from typing import NamedTuple
from uuid import uuid4

from broker.domain import deadlines, placement
from broker.domain.errors import Rejected
from broker.domain.lifecycle import act_of, standing_verdict
from broker.domain.retry import Cause
from broker.store import arguments
from broker.store.answers import Dispatched
from broker.store.catalogue import Catalogue
from broker.store.launchers import too_many_launchers
from broker.store.outcomes import BROKERS_WORD, Decision, decide, leave_alone
from broker.store.reading import TRIES, kept_changing
from broker.store.records import Hash, bounded_facts, bounded_sentence, item_ref
from broker.store.scripts import Word
from broker.wire.dispatches import DispatchExtended, DispatchRequest, EndVm, Room, VmEnded
from broker.wire.machines import MachineView
from broker.wire.names import DispatchId, ItemRef, StreamRef, UserName, parse_owned
from broker.wire.problems import ProblemCode
from broker.wire.states import Instruction, ItemState, Phase, Verdict
from broker.wire.streams import StreamSpec

MAX_USERS = 1_000
MAX_STREAMS = 1_000
"""One request looks at so many users of the ring and so many streams of each, in the order of their fair share."""
MAX_REVISIONS = 100
"""And at the ready items of so many spec revisions of a stream."""
MAX_STOPS_IN_MS = 3_600_000
"""A launcher tells its guests to stop at most an hour ahead."""
_DEFAULT_MEAN_MS = 60_000
"""What a vm is expected to take until its stream's first completion."""
_DROPS = 50
"""How often one request goes on after it dropped a script's fill of stale entries."""
_BOUNDS_RESTART = frozenset({Phase.PREPARING, Phase.BOOTING})
_BEFORE_BOOT = frozenset({Phase.PREPARING, Phase.PREPARED})


class _Fit(NamedTuple):
    """A spec's revision that fits into the room, with what its vm takes."""

    revision: int
    spec: StreamSpec
    machine: MachineView
    size: placement.Size
    boot_ms: int


class Dispatches(Catalogue):
    async def dispatch(self, request: DispatchRequest, serves: Callable[[UserName], bool]) -> Dispatched | None:
        """Give the launcher the next item that fits into its room, by fair share, or None when there is none.

        Users take turns by what they were given so far, then each user's streams. Of a stream's items the first goes
        that fits, whose machine is there and which waits for no canary. Atomic for each item; repeating the
        request within an hour gets the same dispatch, even when it is over by then.

        Raises:
            Conflict: TOO_MANY_LAUNCHERS: as many of its token as may be are there.
            Unavailable: repeat with the same dispatch key.
        """
        key = self._keys.dispatch_key(request.launcher, request.dispatch_key)
        heard = await self._server.act(
            arguments.Hear(request.launcher, self._deadlines.launcher_grace_ms),
            launchers=self._keys.launchers,
            launchers_of=self._keys.launchers_of,
            reports=self._keys.reports,
            dispatch_key=key,
        )
        match heard.word:
            case Word.REPEATED:
                return await self._given(DispatchId(heard.values[0]))
            case Word.FULL:
                raise too_many_launchers()
        users = await self._server.command("ZRANGE", self._keys.ring, 0, MAX_USERS - 1)
        for user in filter(serves, users):
            for job in await self._server.command("ZRANGE", self._keys.user_ring(user), 0, MAX_STREAMS - 1):
                dispatched = await self._dispatch_from(StreamRef(user, job), request, key)
                if dispatched is not None:
                    return dispatched
        return None

    async def vm_event(self, dispatch: DispatchId, launcher: str, phase: Phase, facts: dict[str, str]) -> Instruction:
        """Record a phase of a vm, once each; its launcher counts as heard.

        `preparing` and `booting` each begin a bound of their own, within which the launcher must be heard.

        Raises:
            Rejected: no such vm of this launcher, or the phase is `ended`, which is told with its verdict.
            Unavailable: repeat it.
        """
        if phase == Phase.ENDED:
            raise Rejected(ProblemCode.BAD_REQUEST, "a vm's end is told with its verdict: call …/end")
        ref, vm = await self._own_vm(dispatch, launcher)
        boot_ms = int(vm["boot_ms"]) + self._deadlines.launcher_grace_ms
        reply = await self._server.act(
            arguments.Phase(
                user=ref.stream.user,
                job=ref.stream.name,
                number=str(ref.number),
                dispatch=dispatch,
                launcher=launcher,
                phase=phase.value,
                restarts=phase in _BOUNDS_RESTART,
                bound_ms=deadlines.PREPARE_MS if phase in _BEFORE_BOOT else boot_ms,
                silence_ms=self._deadlines.launcher_grace_ms,
                rest=bounded_facts(facts),
            ),
            self._keys.of_stream(ref.stream),
        )
        return _instruction(reply.word, dispatch)

    async def extend_dispatch(
        self, dispatch: DispatchId, launcher: str, stops_in_ms: int | None = None
    ) -> DispatchExtended:
        """Note that the launcher attends to its vm; while dispatched this moves the deadline.

        With `stops_in_ms`, after which the launcher will destroy the vm, its guest is told to drain from now on.

        A vm whose guest said its last word is told to continue for one grace, so that it can power off by itself.

        Raises:
            Rejected: no such vm of this launcher.
            Unavailable: repeat it.
        """
        ref, _ = await self._own_vm(dispatch, launcher)
        reply = await self._server.act(
            arguments.ExtendDispatch(
                user=ref.stream.user,
                job=ref.stream.name,
                number=str(ref.number),
                dispatch=dispatch,
                launcher=launcher,
                silence_ms=self._deadlines.launcher_grace_ms,
                stops_in_ms="" if stops_in_ms is None else str(max(0, min(stops_in_ms, MAX_STOPS_IN_MS))),
            ),
            self._keys.of_stream(ref.stream),
        )
        instruction = _instruction(reply.word, dispatch)
        if reply.word != Word.OWN:
            return DispatchExtended(instruction=instruction, state="over")
        return DispatchExtended(instruction=instruction, state=reply.values[0], deadline_in_ms=int(reply.values[1]))

    async def end(self, dispatch: DispatchId, launcher: str, end: EndVm, *, has_console: bool) -> VmEnded:
        """Record a vm's verdict, the first one, and do to an item that is still its own what the verdict means.

        Atomic and idempotent. Which verdict stands: `lifecycle.standing_verdict`; `completed` only for a vm whose
        guest's completion was accepted.

        Raises:
            Rejected: no such vm of this launcher.
            Unavailable: repeat it.
        """
        for _ in range(TRIES):
            ref, vm = await self._own_vm(dispatch, launcher)
            item = await self._item(ref)
            is_own = item.get("dispatch") == dispatch
            if not is_own and "over" not in vm:
                continue  # it left between the two reads: by which act decides the verdict
            verdict = standing_verdict(end.verdict, is_own=is_own, over=vm.get("over"), code=vm.get("over_code"))
            said = end.sentence if verdict == end.verdict else BROKERS_WORD[verdict]
            decision = await self._decide_end(ref, item, verdict, said) if is_own else leave_alone(item)
            reply = await self._server.act(
                arguments.End(
                    user=ref.stream.user,
                    job=ref.stream.name,
                    number=str(ref.number),
                    dispatch=dispatch,
                    launcher=launcher,
                    verdict=verdict.value,
                    said=bounded_sentence(said),
                    has_console=has_console,
                    state=item["state"] if is_own else "",
                    over=vm.get("over", ""),
                    silence_ms=self._deadlines.launcher_grace_ms,
                    rest=bounded_facts(end.facts),
                    **decision._asdict(),
                ),
                self._keys.of_stream(ref.stream),
            )
            if reply.word in {Word.DONE, Word.REPEATED}:
                return VmEnded(
                    verdict=Verdict(reply.values[0]), state=reply.values[1], machine_claimed=reply.values[2] == 1
                )
        raise kept_changing()

    async def _decide_end(self, ref: ItemRef, item: Hash, verdict: Verdict, said: str) -> Decision:
        act = act_of(verdict, ItemState(item["state"]))
        if act is None:
            return leave_alone(item)
        spec = await self._spec(ref.stream, int(item["revision"]))
        return decide(act, spec, item, Cause(verdict.value, said))

    async def _own_vm(self, dispatch: DispatchId, launcher: str) -> tuple[ItemRef, Hash]:
        vm = await self._vm(dispatch)
        if vm.get("launcher") != launcher:
            raise _no_vm(dispatch)
        return item_ref(vm["item"]), vm

    async def _dispatch_from(self, ref: StreamRef, request: DispatchRequest, key: str) -> Dispatched | None:
        """Give the first item that fits: the revisions with ready items are tried in the order of their first ones."""
        keys = self._keys.of_stream(ref)
        revisions, mean_ms = await self._server.commands(
            [("ZRANGE", keys.ready, 0, MAX_REVISIONS - 1), ("HGET", keys.stream, "mean_ms")]
        )
        for revision in revisions:
            fit = await self._fit(ref, int(revision), request.room)
            if fit is None:
                continue
            cost = fit.size.vcpus * int(mean_ms or _DEFAULT_MEAN_MS)
            dispatched = await self._dispatch_fitting(ref, request, key, fit, cost)
            if dispatched is not None:
                return dispatched
        return None

    async def _dispatch_fitting(
        self, ref: StreamRef, request: DispatchRequest, key: str, fit: _Fit, cost: int
    ) -> Dispatched | None:
        for _ in range(_DROPS):
            dispatch = DispatchId(str(uuid4()))
            reply = await self._server.act(
                _arguments(ref, dispatch, request, fit, cost), self._keys.of_stream(ref), dispatch_key=key
            )
            match reply.word:
                case Word.DONE:
                    view = await self._view(ItemRef(ref, int(reply.values[0])), dispatch)
                    fence = int(reply.values[1])
                    return Dispatched(dispatch, view, fence, fit.spec, fit.machine, fit.size, fit.boot_ms, False)
                case Word.REPEATED:
                    return await self._given(DispatchId(reply.values[0]))
                case Word.EMPTY | Word.CANARY:
                    return None
        return None

    async def _fit(self, ref: StreamRef, revision: int, room: Room) -> _Fit | None:
        spec = await self._spec(ref, revision)
        machine = await self.usable_machine(ref.user, parse_owned(spec.machine, ref.user, "machine"))
        if machine is None:
            return None
        size = placement.size_of(spec.needs, machine.vcpus, machine.memory_mib, room)
        boot_ms = deadlines.boot_ms(spec.limits.boot_ms, room.accelerator)
        if placement.unmet(spec.needs, size, boot_ms, spec.limits.run_ms, room) is not None:
            return None
        return _Fit(revision, spec, machine, size, boot_ms)

    async def _given(self, dispatch: DispatchId) -> Dispatched | None:
        """Return what a dispatch was given when its key came first; None when its item was forgotten since."""
        vm = await self._vm(dispatch)
        if not vm:
            return None
        ref = item_ref(vm["item"])
        view = await self._view(ref, dispatch)
        spec = await self._spec(ref.stream, view.revision)
        machine = await self.get_machine(parse_owned(vm["machine"], None, "machine"), int(vm["machine_revision"]))
        assert machine is not None, "machines' revisions stay"
        size = placement.Size(int(vm["vcpus"]), int(vm["memory_mib"]), spec.needs.disk_mib)
        return Dispatched(dispatch, view, int(vm["fence"]), spec, machine, size, int(vm["boot_ms"]), True)


def _arguments(
    ref: StreamRef, dispatch: DispatchId, request: DispatchRequest, fit: _Fit, cost: int
) -> arguments.Dispatch:
    return arguments.Dispatch(
        user=ref.user,
        job=ref.name,
        dispatch=dispatch,
        revision=fit.revision,
        cost=cost,
        launcher=request.launcher,
        node=request.node,
        accelerator=request.room.accelerator.value,
        vcpus=fit.size.vcpus,
        memory_mib=fit.size.memory_mib,
        machine=fit.machine.machine,
        machine_revision=fit.machine.revision,
        boot_ms=fit.boot_ms,
        first_deadline_ms=deadlines.FIRST_DEADLINE_MS,
        time_left_ms="" if request.room.time_left_ms is None else str(request.room.time_left_ms),
        drain_ms=max(0, min(request.room.drain_ms, MAX_STOPS_IN_MS)),
    )


def _instruction(word: Word, dispatch: DispatchId) -> Instruction:
    match word:
        case Word.OWN | Word.CLOSING:
            return Instruction.CONTINUE
        case Word.CANCELLED:
            return Instruction.CANCEL
        case Word.OVER:
            return Instruction.SUPERSEDED
        case _:
            raise _no_vm(dispatch)


def _no_vm(dispatch: DispatchId) -> Rejected:
    return Rejected(ProblemCode.NOT_FOUND, f"this launcher has no vm {dispatch}")

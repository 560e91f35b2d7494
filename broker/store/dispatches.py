"""What a launcher does: take an item, tell its vm's phases, show that it attends, say how the vm ended."""

from broker.domain import deadlines
from broker.domain.errors import Rejected
from broker.domain.lifecycle import VERDICTS, act_of, standing_verdict
from broker.domain.retry import Cause
from broker.store import arguments
from broker.store.dispatching import MAX_STOPS_IN_MS, Dispatching
from broker.store.outcomes import BROKERS_WORD, Decision, decide, leave_alone
from broker.store.reading import TRIES, kept_changing
from broker.store.records import Hash, bounded_facts, bounded_sentence, item_ref
from broker.store.scripts import Word
from broker.wire.dispatches import DispatchExtended, EndVm, VmEnded
from broker.wire.names import DispatchId, ItemRef
from broker.wire.problems import ProblemCode
from broker.wire.states import Instruction, ItemState, Phase, Verdict

_BOUNDS_RESTART = frozenset({Phase.PREPARING, Phase.BOOTING})
_BEFORE_BOOT = frozenset({Phase.PREPARING, Phase.PREPARED})


class Dispatches(Dispatching):
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
                    is_machines=VERDICTS[verdict].fault == "machine",
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

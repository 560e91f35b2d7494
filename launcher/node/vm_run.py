"""The way of one vm on this node: prepare, boot, watch, one verdict, and nothing of it left.

The domain is destroyed first, then the verdict is reported, so that an item is never given to somebody else while its
old vm still runs: one that cannot be destroyed keeps its share of the slot and its item, and is tried again. What the
guest delivered before counts whatever is reported here: the first verdict stands, and the broker wrote it when it
accepted the completion.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import structlog

from broker.client.origins import Origin
from broker.client.repetition import answered
from broker.client.session import ONCE, ApiError, Patience, Unreachable
from broker.wire.dispatches import MAX_BOOTED_XML_BYTES, MAX_CONSOLE_BYTES, DispatchAnswer, EndVm, VmEnded
from broker.wire.states import HealthCode, Phase, Verdict
from launcher.exchange.folder import ItemFault
from launcher.exchange.grants import Grant
from launcher.hypervisor.errors import HypervisorError, Unavailable
from launcher.hypervisor.vm import StopReason
from launcher.node.attendance import Attendance
from launcher.node.budget import Budget
from launcher.node.console import Console
from launcher.node.draining import Drain, first_of, unless_drained
from launcher.node.exchanges import Exchange, NetworkExchange
from launcher.node.folder_exchanges import folder_exchange
from launcher.node.node import Node
from launcher.node.phases import Phases
from launcher.node.preparation import CONSOLE_LOG, prepare
from launcher.node.removal import remove_tree
from launcher.node.stopping import Stopping
from launcher.node.verdicts import ITS_CONSOLE_TELLS, NO_RESULT, STOPPED, Ending, failed
from launcher.node.vms import NotePhase, Outcome, ignore_phase

log = structlog.get_logger()

_COMPLETION_GRACE_S = 2.0
"""After a vm powered itself off, or was destroyed: time for a completion that is still on its way to be accepted."""
_BY_THE_LAUNCHER = frozenset({Verdict.DRAINED, Verdict.DISK_EXCEEDED})
"""Verdicts of a vm whose item the broker has not settled yet."""
_REPORT_PATIENCE = Patience(attempts=1_000, total_s=900.0, max_delay_s=15.0)
"""A broker that is away for a quarter of an hour still learns the verdict; later, the item's deadline has passed."""
_TOLD_REFUSALS = 3
_TOLD_ORIGINS = 8
_FORBIDDEN = 403
_DRAIN_PATIENCE = Patience(attempts=10_000, total_s=86_400.0, max_delay_s=2.0)
"""What is left of the drain bounds it."""
_DESTROY_AGAIN_S = 10.0


class VmRun:
    """One dispatch, from its answer to its reported end."""

    def __init__(self, node: Node, answer: DispatchAnswer, note_phase: NotePhase = ignore_phase) -> None:
        self._node = node
        self._answer = answer
        self._phases = Phases(node, answer, note_phase)
        self._ended: VmEnded | None = None
        self._grant: Grant | None = None
        self._console_tail = b""
        self._booted_xml = ""
        self._may_run = False
        self._log = log.bind(dispatch=answer.dispatch, item=answer.item)

    async def run(self, drain: Drain) -> Outcome:
        """Run the vm to its end and report it; return what came of it. Never raises for what concerns this vm alone.

        When the drain is ordered a vm that works is asked to stop; after the grace it is destroyed, and its item given
        back.
        """
        self._log.info("vm_taken", machine=self._answer.machine, vcpus=self._answer.vcpus)
        try:
            ending = await self._live(drain)
        except Exception as error:  # noqa: BLE001 - a bug met by one vm must not end the others of this launcher
            ending = self._failed(error)
        await self._phases.tell_rest(drain.words_left_s())
        if self._may_run:
            # It ends with the launcher, whose silence then tells the broker.
            self._log.error("vm_left_running", verdict=ending.verdict.value)
        else:
            await self._report(self._end_of(ending), drain)
        return Outcome(ending, self._ended)

    async def _live(self, drain: Drain) -> Ending:
        async with self._run_folder() as folder:
            console = Console(folder / CONSOLE_LOG)
            budget = Budget(folder, self._answer.disk_mib, console)
            with self._granted() as self._grant:
                guests = self._grant.reach(Origin.parse(self._node.broker))
                attendance = Attendance(self._node, self._answer, self._phases.tell, guests)
                stopping = Stopping(self._node, self._answer, drain, attendance)
                try:
                    way = self._way(folder, budget, attendance, stopping, drain)
                    told = (attendance.until_told(), self._until_told(attendance), stopping.until_over())
                    ending = await first_of(way, *told)
                    if attendance.was_claimed and ending.verdict in _BY_THE_LAUNCHER:
                        await attendance.until_settled(min(_COMPLETION_GRACE_S, drain.words_left_s()))
                    return stopping.judged(ending)
                finally:
                    self._console_tail = await asyncio.to_thread(console.tail, MAX_CONSOLE_BYTES)

    async def _way(
        self, folder: Path, budget: Budget, attendance: Attendance, stopping: Stopping, drain: Drain
    ) -> Ending:
        """Prepare, boot and watch; return what ended it, whatever that was."""
        try:
            self._phases.tell(Phase.PREPARING)
            async with AsyncExitStack() as stack:
                exchange = self._exchange(folder, attendance, stack)
                try:
                    xml = await prepare(self._node, self._answer, folder, exchange, stack)
                except ItemFault as fault:
                    return await exchange.refuse(fault)
                self._phases.tell(Phase.PREPARED)
                with stopping.reaching(exchange):
                    return await self._boot_and_watch(xml, exchange, budget, attendance, drain)
        except Exception as error:  # noqa: BLE001 - every error has its ending, an unforeseen one too
            return self._failed(error)

    async def _until_told(self, attendance: Attendance) -> Ending:
        return attendance.told(await self._phases.until_told())

    def _failed(self, error: Exception) -> Ending:
        ending = failed(error)
        if ending.code is HealthCode.LAUNCHER_FAILED:
            self._log.error("vm_run_failed", exc_info=error)
        return ending

    def _exchange(self, folder: Path, attendance: Attendance, stack: AsyncExitStack) -> Exchange:
        by_folder = folder_exchange(self._node, self._answer, folder, attendance, stack)
        if by_folder is not None:
            return by_folder
        assert self._grant is not None, "a vm runs with its grant"
        return NetworkExchange(self._node, self._answer, folder, self._grant, attendance)

    async def _boot_and_watch(
        self, xml: str, exchange: Exchange, budget: Budget, attendance: Attendance, drain: Drain
    ) -> Ending:
        """Boot and watch the vm; once it is gone, collect what it left."""
        ended = await self._until_gone(xml, exchange, budget, attendance, drain)
        if isinstance(ended, Ending):
            return ended
        ending = await exchange.collect(ended)
        if ending is not None:
            return ending
        if attendance.was_claimed:
            await attendance.until_settled(_COMPLETION_GRACE_S)
        return await attendance.cut_off() or (STOPPED[ended] if ended is not None else NO_RESULT)

    async def _until_gone(
        self, xml: str, exchange: Exchange, budget: Budget, attendance: Attendance, drain: Drain
    ) -> StopReason | Ending | None:
        """Return why the vm stopped, None when its exchange was done with it; it is destroyed in any case."""
        hypervisor = self._node.hypervisor
        self._phases.tell(Phase.BOOTING)
        try:
            self._booted_xml = xml
            await hypervisor.start_vm(xml)
            attendance.vm_booted()
            self._phases.tell(Phase.STARTED, accelerator=self._node.slot.accelerator.value)
            stopped = hypervisor.wait_stopped(self._answer.dispatch)
            return await first_of(stopped, exchange.watch(), self._over_budget(budget))
        finally:
            await self._destroy(attendance, drain)

    async def _destroy(self, attendance: Attendance, drain: Drain) -> None:
        """Destroy the vm, however long that takes.

        Raises:
            Unavailable: The launcher ends, and the vm may still run.
        """
        is_gone = await first_of(self._destroyed(attendance), _out_of_time(drain))
        if not is_gone:
            self._may_run = True
            raise Unavailable("the vm could not be destroyed while the launcher was there")

    async def _destroyed(self, attendance: Attendance) -> bool:
        while True:
            try:
                await self._node.hypervisor.destroy(self._answer.dispatch)
            except HypervisorError as error:
                self._log.warning("vm_not_destroyed", reason=str(error))
            else:
                return True
            await attendance.show()
            await asyncio.sleep(min(_DESTROY_AGAIN_S, self._answer.limits.heartbeat_ms / 1000))

    async def _over_budget(self, budget: Budget) -> Ending:
        with self._node.budgets.watching(budget):
            return Ending(Verdict.DISK_EXCEEDED, await budget.exceeded())

    @contextmanager
    def _granted(self) -> Iterator[Grant]:
        origins = [Origin.parse(origin) for origin in self._answer.origins]
        grant = self._node.proxy.admit(self._answer.dispatch, origins)
        try:
            yield grant
        finally:
            self._node.proxy.dismiss(self._answer.dispatch)

    @asynccontextmanager
    async def _run_folder(self) -> AsyncIterator[Path]:
        folder = self._node.scratch / self._answer.dispatch[:8]
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            await asyncio.to_thread(remove_tree, folder)

    def _end_of(self, ending: Ending) -> EndVm:
        return EndVm(
            launcher=self._node.name,
            verdict=ending.verdict,
            sentence=_with_refusals(self._with_console(ending), self._grant),
            facts={**self._node.facts, **_facts(self._grant)},
            console=self._console_tail,
            domain_xml=_bounded(self._booted_xml),
        )

    def _with_console(self, ending: Ending) -> str:
        """Point to the console where the guest may have said why, and say so when it has said nothing."""
        if not self._booted_xml or ending.verdict not in ITS_CONSOLE_TELLS:
            return ending.sentence
        return f"{ending.sentence}; {'its console tells more' if self._console_tail else 'its console is empty'}"

    async def _report(self, end: EndVm, drain: Drain) -> None:
        if await unless_drained(drain, self._report_end(end, _REPORT_PATIENCE)) or not drain.is_ordered:
            return
        try:
            async with asyncio.timeout(drain.words_left_s()):
                await self._report_end(end, _DRAIN_PATIENCE)
        except TimeoutError:
            self._log.warning("verdict_not_delivered", verdict=end.verdict.value, reason="the launcher ends")

    async def _report_end(self, end: EndVm, patience: Patience) -> bool:
        """Report the verdict; tell whether the broker took note of the vm's end, one way or the other."""
        tell = self._node.dispatches.end
        try:
            ended = await answered(lambda: tell(self._answer.dispatch, end, patience=ONCE), patience)
            self._ended = ended
        except ApiError as error:
            self._log.warning("verdict_refused", verdict=end.verdict.value, reason=str(error))
            return True
        except Unreachable as error:
            self._log.warning("verdict_not_delivered", verdict=end.verdict.value, reason=str(error))
            return False
        if ended.verdict is end.verdict:
            self._log.info("vm_ended", verdict=ended.verdict.value, sentence=end.sentence)
        else:
            self._log.info("vm_ended", verdict=ended.verdict.value, item_is=ended.state)
        return True


async def _out_of_time(drain: Drain) -> bool:
    """Return when the launcher ends; whether all vms are gone then."""
    await drain.wait_over()
    if not drain.has_lost_vms:
        await asyncio.sleep(drain.words_left_s())
    return drain.has_lost_vms


def _facts(grant: Grant | None) -> dict[str, str]:
    if grant is None:
        return {}
    facts = {"bytes_in": str(grant.bytes_in), "bytes_out": str(grant.bytes_out)}
    # Also at the item when the guest had the last word: often it is why its program failed.
    refused = dict.fromkeys(str(refusal.origin) for refusal in grant.refusals if refusal.status == _FORBIDDEN)
    return {**facts, "refused": ", ".join(list(refused)[:_TOLD_ORIGINS])} if refused else facts


def _bounded(xml: str) -> str:
    """Return the XML, none when it is longer than the broker keeps: half an XML is of no use."""
    return xml if len(xml.encode()) <= MAX_BOOTED_XML_BYTES else ""


def _with_refusals(sentence: str, grant: Grant | None) -> str:
    if grant is None or not grant.refusals:
        return sentence
    reasons = dict.fromkeys(refusal.reason for refusal in grant.refusals)
    return f"{sentence}; on the network: {'; '.join(list(reasons)[:_TOLD_REFUSALS])}"

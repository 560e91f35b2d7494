"""The way of one vm on this node: prepare, boot, watch, one verdict, and nothing of it left.

The domain is destroyed first, then the verdict is reported, so that an item is never given to somebody else while its
old vm still runs. What the guest delivered before counts whatever is reported here: the first verdict stands, and the
broker wrote it when it accepted the completion.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import NoReturn

import structlog

from broker.client.session import ApiError, CallError, Patience, Unreachable
from broker.wire.dispatches import MAX_BOOTED_XML_BYTES, MAX_CONSOLE_BYTES, DispatchAnswer, EndVm, VmEvent
from broker.wire.states import Instruction, Phase, Verdict
from launcher.domain_xml import NoFirmware, NoMachineType, UnsafeOutput, XmlRefused
from launcher.exchange.folder import ItemFault
from launcher.exchange.grants import Grant
from launcher.exchange.origins import Origin
from launcher.exchange.programs import ProgramFailed
from launcher.exchange.rootdisk import NoRootFileSystem
from launcher.hypervisor.errors import HypervisorError, Rejected
from launcher.hypervisor.vm import StopReason
from launcher.images import BadImage, ImageUnavailable
from launcher.node.attendance import Attendance
from launcher.node.console import Console, keep_small
from launcher.node.draining import Drain, first_of, unless_drained
from launcher.node.exchanges import Exchange, NetworkExchange
from launcher.node.folder_exchanges import folder_exchange
from launcher.node.node import Node
from launcher.node.preparation import CONSOLE_LOG, prepare
from launcher.node.removal import remove_tree
from launcher.node.verdicts import STOPPED, TOLD, Ending

log = structlog.get_logger()

_COMPLETION_GRACE_S = 2.0
"""After a vm powered itself off: time for a completion that is still on its way to be accepted."""
_REPORT_PATIENCE = Patience(attempts=1_000, total_s=900.0, max_delay_s=15.0)
"""A broker that is away for a quarter of an hour still learns the verdict; later, the item's deadline has passed."""
_TOLD_REFUSALS = 3
_NO_RESULT = Ending(Verdict.STOPPED_EARLY, "the vm was done, and left no result")
_DRAIN_PATIENCE = Patience(attempts=20, total_s=15.0, max_delay_s=2.0)


class _Told(Exception):
    """The broker answered a report with something else than `continue`."""

    def __init__(self, instruction: Instruction) -> None:
        super().__init__(instruction)
        self.instruction = instruction


class VmRun:
    """One dispatch, from its answer to its reported end."""

    def __init__(self, node: Node, answer: DispatchAnswer) -> None:
        self._node = node
        self._answer = answer
        self._grant: Grant | None = None
        self._console_tail = b""
        self._booted_xml = ""
        self._log = log.bind(dispatch=answer.dispatch, item=answer.item)

    async def run(self, drain: Drain) -> Ending:
        """Run the vm to its end and report it; return what was seen. Never raises for what concerns this vm alone.

        When the drain is ordered the vm is destroyed and its item given back.
        """
        self._log.info("vm_taken", machine=self._answer.machine, vcpus=self._answer.vcpus)
        try:
            ending = await unless_drained(drain, self._live()) or drain.ending
        except OSError as error:
            ending = Ending(Verdict.HOST_ERROR, f"the node could not keep the vm's files: {error}")
        except Exception:  # noqa: BLE001 - a bug met by one vm must not end the others of this launcher
            self._log.exception("vm_run_crashed")
            ending = Ending(Verdict.HOST_ERROR, "the launcher failed; its log has the reason")
        end = self._end_of(ending)
        if not await unless_drained(drain, self._report_end(end, _REPORT_PATIENCE)) and drain.is_ordered:
            await self._report_end(end, _DRAIN_PATIENCE)
        return ending

    async def _live(self) -> Ending:
        async with self._run_folder() as folder:
            console = Console(folder / CONSOLE_LOG)
            attendance = Attendance(self._node, self._answer)
            with self._granted() as self._grant:
                try:
                    return await first_of(self._way(folder, console, attendance), attendance.until_told())
                finally:
                    self._console_tail = await asyncio.to_thread(console.tail, MAX_CONSOLE_BYTES)

    async def _way(self, folder: Path, console: Console, attendance: Attendance) -> Ending:
        """Prepare, boot and watch; return what ended it, whatever that was."""
        try:
            await self._report(Phase.PREPARING)
            async with AsyncExitStack() as stack:
                exchange = self._exchange(folder, attendance, stack)
                try:
                    xml = await prepare(self._node, self._answer, folder, exchange)
                except ItemFault as fault:
                    return await exchange.refuse(fault)
                await self._report(Phase.PREPARED)
                return await self._boot_and_watch(xml, exchange, console, attendance)
        except _Told as told:
            return TOLD[told.instruction]
        except XmlRefused as error:
            return Ending(Verdict.XML_REFUSED, str(error))
        except Rejected as error:
            return Ending(Verdict.XML_REFUSED, f"this node's libvirt does not take the machine: {error}")
        except UnsafeOutput as error:
            self._log.error("output_policy_broken", faults=str(error))
            return Ending(Verdict.HOST_ERROR, f"the launcher's own check refused the vm it had made: {error}")
        except BadImage as error:
            return Ending(Verdict.IMAGE_ERROR, str(error))
        except NoRootFileSystem as error:
            return Ending(Verdict.IMAGE_ERROR, str(error))
        except (ImageUnavailable, NoFirmware, NoMachineType, HypervisorError, ProgramFailed) as error:
            return Ending(Verdict.HOST_ERROR, str(error))
        except CallError as error:
            return Ending(Verdict.HOST_ERROR, f"the broker could not be told that the vm goes on: {error}")

    def _exchange(self, folder: Path, attendance: Attendance, stack: AsyncExitStack) -> Exchange:
        by_folder = folder_exchange(self._node, self._answer, folder, attendance, stack)
        if by_folder is not None:
            return by_folder
        assert self._grant is not None, "a vm runs with its grant"
        return NetworkExchange(self._node, self._answer, folder, self._grant, attendance)

    async def _boot_and_watch(self, xml: str, exchange: Exchange, console: Console, attendance: Attendance) -> Ending:
        """Boot and watch the vm; once it is gone, collect what it left."""
        ended = await self._until_gone(xml, exchange, console, attendance)
        if isinstance(ended, Ending):
            return ended
        ending = await exchange.collect(ended)
        if ending is not None:
            return ending
        if attendance.was_claimed:
            await asyncio.sleep(_COMPLETION_GRACE_S)
        return STOPPED[ended] if ended is not None else _NO_RESULT

    async def _until_gone(
        self, xml: str, exchange: Exchange, console: Console, attendance: Attendance
    ) -> StopReason | Ending | None:
        """Return why the vm stopped, None when its exchange was done with it; it is destroyed in any case."""
        hypervisor = self._node.hypervisor
        await self._report(Phase.BOOTING)
        try:
            self._booted_xml = xml
            await hypervisor.start_vm(xml)
            attendance.vm_booted()
            stopped = hypervisor.wait_stopped(self._answer.dispatch)
            return await first_of(stopped, self._serve(exchange, console))
        finally:
            await hypervisor.destroy(self._answer.dispatch)

    async def _report_started(self) -> None:
        try:
            await self._report(Phase.STARTED, accelerator=self._node.slot.accelerator.value)
        except CallError as error:
            # A vm that runs goes on while the broker is away; its claim will say that it started.
            self._log.warning("phase_not_delivered", phase=Phase.STARTED.value, reason=str(error))

    async def _serve(self, exchange: Exchange, console: Console) -> Ending | None:
        """Serve what a running vm needs of its launcher; returns when the vm is to go."""
        return await first_of(exchange.watch(), self._report_started_and_wait(), keep_small(console))

    async def _report_started_and_wait(self) -> NoReturn:
        await self._report_started()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

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

    async def _report(self, phase: Phase, **facts: str) -> None:
        self._log.info("vm_phase", phase=phase.value)
        answer = await self._node.dispatches.report(
            self._answer.dispatch, VmEvent(launcher=self._node.name, phase=phase, facts=facts)
        )
        if answer.instruction is not Instruction.CONTINUE:
            raise _Told(answer.instruction)

    def _end_of(self, ending: Ending) -> EndVm:
        return EndVm(
            launcher=self._node.name,
            verdict=ending.verdict,
            sentence=_with_refusals(ending.sentence, self._grant),
            facts={**self._node.facts, **_facts(self._grant)},
            console=self._console_tail,
            domain_xml=_bounded(self._booted_xml),
        )

    async def _report_end(self, end: EndVm, patience: Patience) -> bool:
        """Report the verdict; tell whether the broker took note of the vm's end, one way or the other."""
        try:
            ended = await self._node.dispatches.end(self._answer.dispatch, end, patience=patience)
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


def _facts(grant: Grant | None) -> dict[str, str]:
    return {} if grant is None else {"bytes_in": str(grant.bytes_in), "bytes_out": str(grant.bytes_out)}


def _bounded(xml: str) -> str:
    """Return the XML, none when it is longer than the broker keeps: half an XML is of no use."""
    return xml if len(xml.encode()) <= MAX_BOOTED_XML_BYTES else ""


def _with_refusals(sentence: str, grant: Grant | None) -> str:
    if grant is None or not grant.refusals:
        return sentence
    reasons = dict.fromkeys(refusal.reason for refusal in grant.refusals)
    return f"{sentence}; on the network: {'; '.join(list(reasons)[:_TOLD_REFUSALS])}"

"""The launcher in its guest's place: it claims the item, keeps the lease, and delivers what the guest left.

It does what the guest's client would, by the same calls, so that the broker cannot tell the two apart, nor has to.
"""

import asyncio
import base64
import hashlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from broker.client.download import Download, FileFacts
from broker.client.errors import CallError, shown_address
from broker.client.lease import LeaseClient
from broker.client.repetition import answered, is_passing, repeated
from broker.client.session import ONCE, ApiError, Patience, Session, Unreachable
from broker.client.transfer import RepeatJudge, Upload, put
from broker.wire.dispatches import DispatchAnswer, StagedItem
from broker.wire.exchange import ExchangeOutput, ExchangeResult
from broker.wire.items import OutputFile
from broker.wire.leases import ClaimAnswer, ClaimRequest, CompleteRequest, FailRequest, Settled, SignedUrl, UploadFacts
from broker.wire.problems import ProblemCode
from broker.wire.states import EXIT_GIVE_BACK, FailureCode, Instruction, Verdict
from launcher.exchange.folder import ItemFault
from launcher.exchange.outputs import Harvest, Output
from launcher.node.verdicts import TOLD, Ending

log = structlog.get_logger()

_CLAIM_PATIENCE = Patience(attempts=200, total_s=900.0)
_FETCH_PATIENCE = Patience(attempts=8, total_s=600.0, first_delay_s=0.5, max_delay_s=60.0)
_UPLOAD_PATIENCE = Patience(attempts=30, total_s=86_400.0, first_delay_s=0.5, max_delay_s=60.0)
_SIGNING_PATIENCE = Patience(attempts=100_000, total_s=86_400.0)
_FRESH_S = 300.0
"""An address of this age is used as it is; it lives three times as long. Images may have taken longer to come."""
_MAX_GRACE_S = 10.0
_DELIVERY_LEAST_S = 60.0
"""A result that is ready when the run limit is reached is still offered for this long."""
_OUT_OF_OUR_HANDS = frozenset({ProblemCode.LEASE_LOST, ProblemCode.RESULT_DIFFERS, ProblemCode.UNAUTHENTICATED})


class StandIn:
    """One item's guest, as the broker sees it.

    Attributes:
        facts: filled as the work goes on; sent with the result, or the failure.
    """

    def __init__(
        self,
        session: Session,
        answer: DispatchAnswer,
        staged: StagedItem,
        *,
        client: str,
        renew: Callable[[], Awaitable[StagedItem | None]],
    ) -> None:
        """`renew` asks for the item again, with its addresses signed anew."""
        self.facts = {"exchange": answer.exchange.value}
        self._session = session
        self._client = LeaseClient(session)
        self._answer = answer
        self._staged = staged
        self._signed_at_s = time.monotonic()
        self._renew = renew
        self._name = client
        # Made once for this vm: a repeated claim is known by it.
        self._key = base64.b64encode(os.urandom(32)).decode()
        self._claimed: ClaimAnswer | None = None
        self._claimed_at_s = 0.0
        self._fetch_s = 0.0
        self._further_bytes = 0
        self._log = log.bind(dispatch=answer.dispatch, item=answer.item)

    @property
    def has_claimed(self) -> bool:
        return self._claimed is not None

    @property
    def _run_s(self) -> float:
        """The run limit as the broker told it with the claim: less than the stream's where the slot ends before."""
        limits = self._answer.limits if self._claimed is None else self._claimed.limits
        return limits.run_ms / 1000

    def left_s(self) -> float:
        """Return what is left of the run limit; a little less than the broker's, so that it learns why."""
        run_s = self._run_s
        grace_s = min(_MAX_GRACE_S, run_s / 20)
        return self._claimed_at_s + run_s - 2 * grace_s - time.monotonic()

    async def fetch_input(self, path: Path, limit_bytes: int, name: str = "") -> int:
        """Bring the input, or the further one of that name, before the boot, and return how many bytes it has.

        Raises:
            ItemFault: it cannot be had; the sentence is for the researcher.
            OSError: the node cannot keep it.
        """
        signed = self._signed_input(name)
        started_at_s = time.monotonic()
        download, has_tried = Download(path, limit_bytes=limit_bytes), False

        async def once() -> FileFacts:
            nonlocal has_tried
            if has_tried or time.monotonic() - self._signed_at_s > _FRESH_S:
                await self._sign_anew()
            has_tried = True
            return await download.go_on(self._session, self._signed_input(name))

        try:
            fetched = await repeated(once, _FETCH_PATIENCE, RepeatJudge(), lambda: download.arrived_bytes)
        except CallError as error:
            raise ItemFault(FailureCode.INPUT_UNAVAILABLE, _fetch_sentence(signed, error)) from error
        self._fetch_s += time.monotonic() - started_at_s
        self.facts["fetch_ms"] = str(round(self._fetch_s * 1000))
        if name:
            self._further_bytes += fetched.size_bytes
            self.facts["further_input_bytes"] = str(self._further_bytes)
        else:
            self.facts |= {"input_bytes": str(fetched.size_bytes), "input_digest": fetched.digest}
        return fetched.size_bytes

    def _signed_input(self, name: str) -> SignedUrl:
        signed = self._staged.inputs[name] if name else self._staged.input
        assert signed is not None, "an item with an input has an address of it"
        return signed

    async def _sign_anew(self) -> None:
        """Ask for addresses anew; where there are none to be had, those that are known are tried."""
        try:
            staged = await self._renew()
        except CallError as error:
            self._log.info("input_not_signed_anew", reason=str(error))
            return
        if staged is not None:
            self._staged, self._signed_at_s = staged, time.monotonic()

    async def claim(self) -> Ending | None:
        """Claim the item, if that has not been done; return how it ended when it is not ours to claim."""
        if self._claimed is not None:
            return None
        request = ClaimRequest(ticket=self._answer.ticket, claim_key=self._key, client=self._name, takes_inputs=True)
        try:
            self._claimed = await answered(lambda: self._client.claim(request, patience=ONCE), _CLAIM_PATIENCE)
        except ApiError as error:
            return Ending(Verdict.SUPERSEDED, f"the broker refused the vm's ticket: {error}")
        except Unreachable as error:
            return Ending(Verdict.NETWORK_CUT, f"the item could not be claimed for the vm: {error}")
        self._claimed_at_s = time.monotonic()
        self._log.info("claimed_for_vm")
        return None

    async def keep(self) -> Ending:
        """Extend the lease, for ever; return when the item is no longer ours. A broker that is away ends nothing."""
        claimed = self._held()
        interval_s = claimed.limits.heartbeat_ms / 1000
        while True:
            await asyncio.sleep(interval_s)
            try:
                told = await self._client.extend(claimed.lease, timeout_s=max(interval_s, 1.0), patience=ONCE)
            except CallError as error:
                if isinstance(error, ApiError) and not is_passing(error):
                    return Ending(Verdict.SUPERSEDED, f"the lease is over: {error}")
                continue
            if told.instruction in {Instruction.CANCEL, Instruction.SUPERSEDED}:
                return TOLD[told.instruction]

    async def deliver(self, harvest: Harvest) -> Ending | None:
        """Upload what the guest left, and complete; or fail, as its result says. None without a result."""
        if harvest.result is None:
            return None
        try:
            _check_result(harvest.result)
            async with asyncio.timeout(max(self.left_s(), _DELIVERY_LEAST_S)):
                outputs = await self._upload(harvest)
        except ItemFault as fault:
            return await self.fail(fault, harvest)
        except TimeoutError:
            return await self.fail(self.run_limit_reached("its output was uploaded"), harvest)
        self.facts = harvest.result.facts | self.facts
        request = CompleteRequest(outputs=outputs, facts=self.facts, log=harvest.log)
        try:
            await self._tell(lambda lease: self._client.complete(lease, request, patience=ONCE))
        except ApiError as error:
            if error.code in _OUT_OF_OUR_HANDS:
                return Ending(Verdict.SUPERSEDED, f"the broker refused the result: {error}")
            return await self.fail(ItemFault(FailureCode.UPLOAD_FAILED, str(error)), harvest)
        except Unreachable as error:
            return Ending(Verdict.NETWORK_CUT, f"the result could not be delivered: {error}")
        return Ending(Verdict.COMPLETED, "the result was accepted")

    def run_limit_reached(self, while_what: str) -> ItemFault:
        return ItemFault(FailureCode.RUN_TIMEOUT, f"the run limit of {self._run_s:g} s was reached while {while_what}")

    async def fail(self, fault: ItemFault, harvest: Harvest | None = None) -> Ending:
        """Tell the broker that this attempt failed; claims the item first where that has not been done."""
        ending = await self.claim()
        if ending is not None:
            return ending
        if harvest is not None and harvest.result is not None:
            self.facts = harvest.result.facts | self.facts
        request = FailRequest(
            code=fault.code,
            sentence=fault.sentence,
            exit_code=fault.exit_code,
            facts=self.facts,
            log=b"" if harvest is None else harvest.log,
        )
        verdict = Verdict.RUN_TIMEOUT if fault.code is FailureCode.RUN_TIMEOUT else Verdict.ITEM_FAILED
        try:
            await self._tell(lambda lease: self._client.fail(lease, request, patience=ONCE))
        except CallError as error:
            self._log.warning("failure_not_delivered", reason=str(error))
            if isinstance(error, ApiError) and error.code in _OUT_OF_OUR_HANDS:
                return Ending(Verdict.SUPERSEDED, f"the broker refused the failure: {error}")
        return Ending(verdict, fault.sentence)

    async def _upload(self, harvest: Harvest) -> list[OutputFile]:
        started_at_s = time.monotonic()
        listed = None
        if harvest.result is not None and harvest.result.outputs is not None:
            listed = {output.name: output for output in harvest.result.outputs}
        uploaded = [await self._put(output, listed) for output in harvest.outputs]
        missing = sorted(set(listed or ()) - {output.name for output in harvest.outputs})
        if missing:
            raise ItemFault(
                FailureCode.OUTPUT_REFUSED, f"the guest's result lists {missing[0]!a}, which is not among its outputs"
            )
        self.facts["upload_ms"] = _ms_since(started_at_s)
        return uploaded

    async def _put(self, output: Output, listed: dict[str, ExchangeOutput] | None) -> OutputFile:
        try:
            digest = await asyncio.to_thread(_sha256, output)
            if listed is not None:
                _check_listed(output, f"sha256:{digest.hex()}", listed)
            target = await self._put_bytes(output, digest)
        except CallError as error:
            sentence = f"the output {output.name} could not be uploaded: {error}"
            raise ItemFault(FailureCode.UPLOAD_FAILED, sentence) from error
        except OSError as error:
            sentence = f"the output {output.name} cannot be read: {error.strerror or error}"
            raise ItemFault(FailureCode.OUTPUT_REFUSED, sentence) from error
        return OutputFile(name=output.name, size_bytes=output.size_bytes, digest=f"sha256:{digest.hex()}", url=target)

    async def _put_bytes(self, output: Output, digest: bytes) -> str:
        has_tried = False

        async def once() -> str:
            nonlocal has_tried
            with os.fdopen(output.open(), "rb") as file:
                upload = Upload(file, output.size_bytes, digest)
                signed = await self._signed_output(output.name, upload.facts)
                may_be_ours, has_tried = has_tried, True
                await put(self._session, signed, upload, may_be_ours=may_be_ours)
            return signed.target

        return await repeated(once, _UPLOAD_PATIENCE, RepeatJudge())

    async def _signed_output(self, name: str, facts: UploadFacts) -> SignedUrl:
        lease, uploads = self._held().lease, {name: facts}
        try:
            answer = await answered(
                lambda: self._client.urls(lease, [name], uploads=uploads, patience=ONCE), _SIGNING_PATIENCE
            )
            return answer.outputs[name]
        except (CallError, KeyError) as error:
            sentence = f"the broker gave no address for the output {name}: {error}"
            raise ItemFault(FailureCode.UPLOAD_FAILED, sentence) from error

    async def _tell(self, say: Callable[[str], Awaitable[Settled]]) -> Settled:
        lease = self._held().lease
        patience = Patience(attempts=100_000, total_s=max(self.left_s(), _DELIVERY_LEAST_S))
        return await answered(lambda: say(lease), patience)

    def _held(self) -> ClaimAnswer:
        assert self._claimed is not None, "the item is claimed before anything is done with its lease"
        return self._claimed


def has_succeeded(result: ExchangeResult | None) -> bool:
    """Say whether a guest left a result, and that of a success: exit status 0 without a failure's code."""
    return result is not None and result.exit_code == 0 and result.code is None


def _check_result(result: ExchangeResult) -> None:
    """Accept a success.

    Raises:
        ItemFault: any other, with what the guest says, or a sentence of ours.
    """
    if has_succeeded(result):
        return
    said = f"the program exited with status {result.exit_code}"
    if result.exit_code is None:
        said = "the guest says that its attempt failed"
    elif result.exit_code < 0:
        said = f"the program was killed by signal {-result.exit_code}"
    elif result.exit_code == EXIT_GIVE_BACK:
        said += ", which gives the item back"
    raise ItemFault(result.code or FailureCode.PROGRAM_FAILED, result.sentence or said, exit_code=result.exit_code)


def _check_listed(output: Output, digest: str, listed: dict[str, ExchangeOutput]) -> None:
    said = listed.get(output.name)
    if said is None:
        return
    if (said.size_bytes, said.digest) != (output.size_bytes, digest):
        raise ItemFault(
            FailureCode.OUTPUT_REFUSED,
            f"the output {output.name} has {output.size_bytes} bytes and {digest}, which is not what the result says",
        )


def _sha256(output: Output) -> bytes:
    with os.fdopen(output.open(), "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _fetch_sentence(signed: SignedUrl, error: CallError) -> str:
    shown = shown_address(signed.target)
    if isinstance(error, ApiError):
        return f"the input {shown} answered {error.status} {error.reason}".rstrip()
    return f"the input {shown} could not be fetched: {error}"


def _ms_since(started_at_s: float) -> str:
    return str(round((time.monotonic() - started_at_s) * 1000))

"""One item inside one vm: claim → fetch → run → upload → deliver, with a heartbeat beside it.

Three things can end it early: the run limit, a lost lease, a signal. Each stops the program and all that it started.
A broker that is away ends nothing: the work goes on and the result waits for it, as long as the run limit allows.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from broker.client.lease import LeaseClient
from broker.client.session import ONCE, ApiError, Patience, Session, Unreachable
from broker.wire.items import OutputFile
from broker.wire.leases import ClaimAnswer, CompleteRequest, FailRequest, Settled
from broker.wire.port import Welcome
from broker.wire.problems import ProblemCode
from broker.wire.states import EXIT_GIVE_BACK, FailureCode
from guest.exits import Exit
from guest.steps.account import Account
from guest.steps.claim import claim_item, claim_key
from guest.steps.command import arguments, environment
from guest.steps.facts import client_name, guest_os, uptime_s
from guest.steps.failure import StepFailed
from guest.steps.heartbeat import beat_until_lost
from guest.steps.outputs import collect
from guest.steps.program import Program, Tail, check_status, copy_to_console
from guest.steps.repetition import answered
from guest.steps.transfer import Transfers
from guest.steps.workspace import Workspace

MAX_GRACE_S = 10.0
DELIVERY_LEAST_S = 60.0
"""A result that is ready when the run limit is reached is still offered for this long."""

OUT_OF_OUR_HANDS = frozenset({ProblemCode.LEASE_LOST, ProblemCode.RESULT_DIFFERS, ProblemCode.UNAUTHENTICATED})
"""Refusals after which the item is no longer ours to fail."""

Say = Callable[[str], None]


async def work(welcome: Welcome, run_folder: Path, authorities_pem: str, say: Say) -> Exit:
    """Do the one item that the ticket buys, and tell how it ended. SIGTERM stops it."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        async with Session(welcome.broker, ca_pem=authorities_pem, proxy=welcome.proxy) as session:
            return await _claim_and_work(session, welcome, run_folder, say)
    except asyncio.CancelledError:
        # Whoever cancels the only task of this process wants it to end, and it does.
        return Exit.STOPPED


async def _claim_and_work(session: Session, welcome: Welcome, run_folder: Path, say: Say) -> Exit:
    client = LeaseClient(session)
    try:
        claimed = await claim_item(client, welcome.ticket, claim_key(run_folder, welcome.ticket))
    except ApiError as error:
        say(f"the broker refused the ticket: {error}")
        return Exit.CLAIM_REFUSED
    except Unreachable as error:
        say(f"the broker could not be reached: {error}")
        return Exit.BROKER_AWAY
    say(f"claimed {claimed.item} {uptime_s():.1f} s after the kernel's start")
    attempt = Attempt(session, client, claimed, welcome.proxy, say)
    request = await _with_heartbeat(attempt, client, claimed, say)
    return Exit.LEASE_LOST if request is None else await _deliver(attempt, client, claimed, request, say)


async def _with_heartbeat(
    attempt: "Attempt", client: LeaseClient, claimed: ClaimAnswer, say: Say
) -> CompleteRequest | FailRequest | None:
    """Work until there is something to deliver, or until the lease is lost (None)."""
    async with asyncio.TaskGroup() as group:
        working = group.create_task(attempt.carry_out())
        beating = group.create_task(beat_until_lost(client, claimed, lambda: attempt.stage, say))
        await asyncio.wait({working, beating}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            beating.cancel()
        else:
            say(f"{beating.result()}; stopping the program")
            working.cancel()
    return None if working.cancelled() else working.result()


async def _deliver(
    attempt: "Attempt", client: LeaseClient, claimed: ClaimAnswer, request: CompleteRequest | FailRequest, say: Say
) -> Exit:
    patience = Patience(attempts=100_000, total_s=max(attempt.left_s(), DELIVERY_LEAST_S))
    if isinstance(request, FailRequest):
        say(request.sentence)

    async def send() -> Settled:
        if isinstance(request, FailRequest):
            return await client.fail(claimed.lease, request, patience=ONCE)
        return await client.complete(claimed.lease, request, patience=ONCE)

    try:
        settled = await answered(send, patience)
    except ApiError as error:
        if isinstance(request, CompleteRequest) and error.code not in OUT_OF_OUR_HANDS:
            return await _deliver(attempt, client, claimed, attempt.refused(error), say)
        say(f"the broker refused the result: {error}")
        return Exit.LEASE_LOST if error.code is ProblemCode.LEASE_LOST else Exit.RESULT_REFUSED
    except Unreachable as error:
        say(f"the result could not be delivered: {error}")
        return Exit.BROKER_AWAY
    say(f"{settled.item} is {settled.state}")
    if isinstance(request, CompleteRequest):
        return Exit.COMPLETED
    return Exit.GIVEN_BACK if request.exit_code == EXIT_GIVE_BACK else Exit.ITEM_FAILED


@dataclass(slots=True)
class Attempt:
    """The work on the claimed item, from its input to its uploaded output."""

    session: Session
    client: LeaseClient
    claimed: ClaimAnswer
    proxy: str | None
    say: Say
    stage: str = "claimed"
    facts: dict[str, str] = field(default_factory=dict)
    tail: Tail = field(default_factory=lambda: Tail(copy_to_console))
    started_at_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.facts = {
            "guest_os": guest_os(),
            "client": client_name(),
            "boot_to_claim_ms": str(round(uptime_s() * 1000)),
        }

    @property
    def grace_s(self) -> float:
        """What a program gets between SIGTERM and SIGKILL: at most a twentieth of its limit."""
        return min(MAX_GRACE_S, self.claimed.limits.run_ms / 1000 / 20)

    def left_s(self) -> float:
        """Return what is left of the run limit, in which a stopped program and its log still have to find their place.

        The broker ends the item itself at the limit; ours comes a little earlier, so that it learns why.
        """
        return self.started_at_s + self.claimed.limits.run_ms / 1000 - 2 * self.grace_s - time.monotonic()

    async def carry_out(self) -> CompleteRequest | FailRequest:
        """Fetch, run, upload; never raises for what is the item's fault."""
        try:
            async with asyncio.timeout(self.left_s()):
                outputs = await self._steps()
        except StepFailed as failed:
            return FailRequest(
                code=failed.code,
                sentence=failed.sentence,
                exit_code=failed.exit_code,
                facts=self.facts,
                log=self.tail.content(),
            )
        except TimeoutError:
            return FailRequest(
                code=FailureCode.RUN_TIMEOUT,
                sentence=f"the run limit of {self.claimed.limits.run_ms / 1000:g} s was reached while {self.stage}",
                facts=self.facts,
                log=self.tail.content(),
            )
        return CompleteRequest(outputs=outputs, facts=self.facts, log=self.tail.content())

    def refused(self, error: ApiError) -> FailRequest:
        """Make a failure of a completion that the broker does not take, as when an output is not there as described."""
        return FailRequest(
            code=FailureCode.UPLOAD_FAILED, sentence=str(error), facts=self.facts, log=self.tail.content()
        )

    async def _steps(self) -> list[OutputFile]:
        account = Account.find(self.claimed.as_user)
        workspace = self._workspace()
        try:
            transfers = Transfers(self.session, self.client, self.claimed)
            input_path = await self._fetch(transfers, workspace)
            await self._run(workspace, account, input_path)
            return await self._upload(transfers, workspace)
        finally:
            workspace.remove()

    def _workspace(self) -> Workspace:
        try:
            workspace = Workspace.make()
            workspace.write_features(self.claimed)
        except OSError as error:
            raise StepFailed(
                FailureCode.INPUT_UNAVAILABLE, f"no working folder can be made in the vm: {error.strerror}"
            ) from error
        return workspace

    async def _fetch(self, transfers: Transfers, workspace: Workspace) -> Path | None:
        if self.claimed.input is None:
            return None
        self.stage = "fetching the input"
        started_at_s = time.monotonic()
        fetched = await transfers.fetch_input(workspace.input_path(self.claimed.input.name))
        self.facts |= {
            "fetch_ms": _ms_since(started_at_s),
            "input_bytes": str(fetched.size_bytes),
            "input_digest": fetched.digest,
        }
        self.say(f"fetched {fetched.path.name}, {fetched.size_bytes} bytes")
        return fetched.path

    async def _run(self, workspace: Workspace, account: Account, input_path: Path | None) -> None:
        self.stage = "running the program"
        program = Program(
            arguments(self.claimed, workspace, input_path),
            environment(self.claimed, workspace, input_path, account, self.proxy),
            workspace.work,
            account,
            self.grace_s,
        )
        workspace.hand_over(account)
        self.say(f"running {program.arguments[0]}")
        started_at_s = time.monotonic()
        try:
            status = await program.run(self.tail)
        finally:
            self.facts["run_ms"] = _ms_since(started_at_s)
        check_status(status, self.tail)

    async def _upload(self, transfers: Transfers, workspace: Workspace) -> list[OutputFile]:
        self.stage = "uploading the output"
        started_at_s = time.monotonic()
        outputs = collect(workspace.output, self.claimed.output_files, self.claimed.limits)
        if not outputs:
            self.say(f"the output folder holds no file that matches {' '.join(self.claimed.output_files)}")
        uploaded = [await transfers.put_output(output) for output in outputs]
        self.facts["upload_ms"] = _ms_since(started_at_s)
        self.say(f"uploaded {len(uploaded)} files, {sum(file.size_bytes for file in uploaded)} bytes")
        return uploaded


def _ms_since(started_at_s: float) -> str:
    return str(round((time.monotonic() - started_at_s) * 1000))

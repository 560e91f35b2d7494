"""One item inside one vm: claim → fetch → run → upload → deliver, with a heartbeat beside it.

Four things can end it early: the run limit, a lost lease, a signal, and the word that the vm has to end soon, after
which the item is given back. Each stops the program and all that it started.
A broker that is away ends nothing: the work goes on and the result waits for it, as long as the run limit allows.
"""

import asyncio
import signal
from pathlib import Path

from broker.client.lease import LeaseClient
from broker.client.repetition import answered
from broker.client.session import ONCE, ApiError, Patience, Session, Unreachable
from broker.wire.items import OutputFile
from broker.wire.leases import ClaimAnswer, CompleteRequest, FailRequest, Settled
from broker.wire.port import Welcome
from broker.wire.problems import ProblemCode
from broker.wire.states import EXIT_GIVE_BACK, FailureCode
from guest.exits import Exit
from guest.steps.attempt import Attempt, Say
from guest.steps.claim import claim_item, claim_key
from guest.steps.facts import uptime_s
from guest.steps.failure import StepFailed
from guest.steps.heartbeat import beat_until_lost
from guest.steps.plugins import Plugins
from guest.steps.port import Port
from guest.steps.refreshing import keep_fresh
from guest.steps.secrets import Secrets
from guest.steps.stopping import StopOrders, listening
from guest.steps.transfer import Transfers
from guest.steps.work import Work

DELIVERY_LEAST_S = 60.0
"""A result that is ready when the run limit is reached is still offered for this long."""

DELIVERING = "delivering the result"

OUT_OF_OUR_HANDS = frozenset({ProblemCode.LEASE_LOST, ProblemCode.RESULT_DIFFERS, ProblemCode.UNAUTHENTICATED})
"""Refusals after which the item is no longer ours to fail."""


async def work(welcome: Welcome, run_folder: Path, authorities_pem: str, say: Say, port: Port | None = None) -> Exit:
    """Do the one item that the ticket buys, and tell how it ended. SIGTERM stops it, and the launcher's word."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    orders = StopOrders()
    try:
        async with Session(welcome.broker, ca_pem=authorities_pem, proxy=welcome.proxy) as session:
            with listening(port, orders):
                return await _claim_and_work(session, welcome, run_folder, say, orders)
    except asyncio.CancelledError:
        # Whoever cancels the only task of this process wants it to end, and it does.
        return Exit.STOPPED


async def _claim_and_work(session: Session, welcome: Welcome, run_folder: Path, say: Say, orders: StopOrders) -> Exit:
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
    secrets = Secrets(claimed.secrets, say)
    carrier = Transfers(session, client, claimed, secrets, Plugins(claimed, secrets, welcome.proxy))
    attempt = Attempt(Work.of_claim(claimed), carrier, welcome.proxy, say, orders=orders, secrets=secrets)
    request = await _with_heartbeat(attempt, client, claimed, say)
    if request is None:
        return Exit.LEASE_LOST
    # A broker that has to look at outputs elsewhere first may take longer, or ask to come again, than a lease lasts.
    beating = asyncio.create_task(beat_until_lost(client, claimed, lambda: DELIVERING, _unheard, attempt.orders))
    try:
        return await _deliver(attempt, client, claimed, request, say)
    finally:
        beating.cancel()
        await asyncio.wait([beating])


async def _with_heartbeat(
    attempt: Attempt, client: LeaseClient, claimed: ClaimAnswer, say: Say
) -> CompleteRequest | FailRequest | None:
    """Work until there is something to deliver, or until the lease is lost (None)."""
    async with asyncio.TaskGroup() as group:
        working = group.create_task(_carried_out(attempt))
        beating = group.create_task(beat_until_lost(client, claimed, attempt.progress, say, attempt.orders))
        refreshing = group.create_task(keep_fresh(client, claimed, attempt.secrets))
        await asyncio.wait({working, beating}, return_when=asyncio.FIRST_COMPLETED)
        refreshing.cancel()
        if working.done():
            beating.cancel()
        else:
            say(f"{beating.result()}; stopping the program")
            working.cancel()
    return None if working.cancelled() else working.result()


async def _deliver(
    attempt: Attempt, client: LeaseClient, claimed: ClaimAnswer, request: CompleteRequest | FailRequest, say: Say
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
            return await _deliver(attempt, client, claimed, _refused(attempt, error), say)
        say(f"the broker refused the result: {error}")
        return Exit.LEASE_LOST if error.code is ProblemCode.LEASE_LOST else Exit.RESULT_REFUSED
    except Unreachable as error:
        say(f"the result could not be delivered: {error}")
        return Exit.BROKER_AWAY
    say(f"{settled.item} is {settled.state}")
    if isinstance(request, CompleteRequest):
        return Exit.COMPLETED
    return Exit.GIVEN_BACK if request.exit_code == EXIT_GIVE_BACK else Exit.ITEM_FAILED


def _unheard(_: str) -> None:
    """Say nothing: what becomes of the delivery is told by its own answer."""


async def _carried_out(attempt: Attempt) -> CompleteRequest | FailRequest:
    """Do the work; never raises for what is the item's fault."""
    try:
        delivered = await attempt.carry_out()
    except StepFailed as failed:
        return FailRequest(
            code=failed.code,
            sentence=failed.sentence,
            exit_code=failed.exit_code,
            facts=attempt.facts,
            log=attempt.tail.content(),
        )
    outputs = [
        OutputFile(name=file.name, size_bytes=file.size_bytes, digest=file.digest, url=file.url) for file in delivered
    ]
    return CompleteRequest(outputs=outputs, facts=attempt.facts, log=attempt.tail.content())


def _refused(attempt: Attempt, error: ApiError) -> FailRequest:
    """Make a failure of a completion that the broker does not take, as when an output is not there as described."""
    return FailRequest(
        code=FailureCode.UPLOAD_FAILED, sentence=str(error), facts=attempt.facts, log=attempt.tail.content()
    )

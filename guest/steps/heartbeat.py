"""Keeping the lease while the work goes on."""

import asyncio
from collections.abc import Callable

from broker.client.errors import CallError
from broker.client.lease import LeaseClient
from broker.client.repetition import is_passing
from broker.client.session import ONCE, ApiError
from broker.wire.leases import ClaimAnswer
from broker.wire.states import Instruction
from guest.steps.stopping import StopOrders

DRAIN_LEFT_MS = 10_000
"""What is taken to be left when the broker says `drain`, which tells no time; the port told it, if we can read it."""


async def beat_until_lost(
    client: LeaseClient,
    claimed: ClaimAnswer,
    progress: Callable[[], str],
    say: Callable[[str], None],
    orders: StopOrders,
) -> str:
    """Extend the lease for ever; returns, with the reason as a sentence, when the item is no longer ours.

    That the vm has to end soon is passed on; the lease is kept meanwhile, as the item is still to be given back.
    A broker that is away takes nothing from us: it moves its deadlines by the time it was gone.
    """
    interval_s = claimed.limits.heartbeat_ms / 1000
    was_away = False
    while True:
        await asyncio.sleep(interval_s)
        try:
            answer = await client.extend(
                claimed.lease, progress=progress(), timeout_s=max(interval_s, 1.0), patience=ONCE
            )
        except CallError as error:
            if isinstance(error, ApiError) and not is_passing(error):
                return f"the lease is over: {error}"
            if not was_away:
                say(f"the broker is away, the work goes on: {error}")
            was_away = True
            continue
        was_away = False
        match answer.instruction:
            case Instruction.CANCEL:
                return "the item was cancelled"
            case Instruction.SUPERSEDED:
                return "the item was given to another vm"
            case Instruction.DRAIN:
                orders.give("the launcher gives its vms up", DRAIN_LEFT_MS)
            case Instruction.CONTINUE:
                continue

"""Keeping secrets fresh while the work goes on: a proxy lasts hours, a run may last days."""

import asyncio

from broker.client.errors import CallError
from broker.client.lease import LeaseClient
from broker.client.session import ONCE
from broker.wire.leases import ClaimAnswer
from guest.steps import secrets as kept
from guest.steps.secrets import Secrets


async def keep_fresh(client: LeaseClient, claimed: ClaimAnswer, secrets: Secrets) -> None:
    """Ask for secrets that changed, for ever; where the item has none, do nothing.

    A broker that is away is asked again the next time; that the lease is lost is the heartbeat's to tell.
    """
    while claimed.secrets:
        await asyncio.sleep(kept.REFRESH_S)
        try:
            answer = await client.urls(claimed.lease, [], secrets.versions, patience=ONCE)
        except CallError:
            continue
        secrets.take(answer.secrets)

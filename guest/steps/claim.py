"""Ticket → item. The claim key is what makes a repeated claim ours: it outlives the client, not the vm."""

import base64
import hashlib
import os
from pathlib import Path

from broker.client.lease import LeaseClient
from broker.client.repetition import answered
from broker.client.session import ONCE, Patience
from broker.wire.leases import ClaimAnswer, ClaimRequest
from guest.steps.facts import client_name, guest_os

CLAIM_PATIENCE = Patience(attempts=200, total_s=900.0)
"""As long as the longest boot deadline: then the broker has given the item back anyway."""


def claim_key(run_folder: Path, ticket: str) -> str:
    """Return this vm's key for the ticket, made at the first call and kept with mode 0600 for the next.

    Call it only after fresh entropy came: two clones of one memory must not make the same.
    """
    run_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = run_folder / f"claim-key-{hashlib.sha256(ticket.encode()).hexdigest()[:16]}"
    if not path.exists():
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(os.urandom(32)))
        draft.rename(path)
    return path.read_text()


async def claim_item(client: LeaseClient, ticket: str, key: str) -> ClaimAnswer:
    """Claim, again and again while the broker is away.

    Raises:
        ApiError: the broker refused the ticket: nothing is to be done in this vm.
        Unreachable: the broker stayed away.
    """
    request = ClaimRequest(
        ticket=ticket,
        claim_key=key,
        client=client_name(),
        guest_os=guest_os(),
        takes_secrets=True,
        takes_inputs=True,
    )
    return await answered(lambda: client.claim(request, patience=ONCE), CLAIM_PATIENCE)

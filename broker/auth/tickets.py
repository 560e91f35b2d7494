"""Tickets and lease tokens: derived, never stored.

A ticket is `vt1.SHARD.DISPATCH.KEY.MAC`, a lease token `vl1.SHARD.USER/JOB/NUMBER.FENCE.KEY.MAC`; names may hold dots,
so a lease token is read from both ends. Asked again, the broker derives the same text again; the store keeps hashes of
the secret parts and nothing that would let its reader claim. A ticket proves itself by its MAC; of a lease token the
MAC is the nonce whose hash the store compares.
"""

import hashlib
import re
from typing import NamedTuple

from broker.auth.keys import MacKeys
from broker.domain.errors import Rejected
from broker.wire.names import BadName, DispatchId, ItemRef, is_dispatch, parse_item
from broker.wire.problems import ProblemCode

SHARD = "0"
_TICKET = "vt1"
_LEASE = "vl1"
_MIN_CLAIM_KEY = 40
"""32 bytes in base64 are 43 characters and padding."""
_MAX_CLAIM_KEY = 256
_FENCE = re.compile(r"[1-9][0-9]{0,14}")


class Ticket(NamedTuple):
    """What a verified ticket is for, and the key that made it."""

    dispatch: DispatchId
    key_id: str


class LeaseClaim(NamedTuple):
    """What a lease token says: the store decides whether it is (still) true."""

    item: ItemRef
    fence: int
    nonce_hash: str


def make_ticket(keys: MacKeys, dispatch: DispatchId) -> str:
    """Derive the ticket of a dispatch."""
    return ".".join((_TICKET, SHARD, dispatch, keys.current, keys.make("ticket", dispatch)))


def verify_ticket(keys: MacKeys, ticket: str) -> Ticket:
    """Read a ticket that the broker made; whether it is spent is the store's to say.

    Raises:
        Rejected: `unauthenticated`: the broker never made it.
    """
    parts = ticket.split(".")
    if len(parts) == 5 and parts[0] == _TICKET and parts[1] == SHARD and is_dispatch(parts[2]):
        _, _, dispatch, key_id, mac = parts
        if keys.verify(key_id, mac, "ticket", dispatch):
            return Ticket(DispatchId(dispatch), key_id)
    raise Rejected(ProblemCode.UNAUTHENTICATED, "this is no ticket of this broker: the vm cannot have an item for it")


def hash_claim_key(claim_key: str) -> str:
    """Return the hash under which a claim key is known.

    Raises:
        Rejected: `bad_request` when it is too short to be secret.
    """
    if not _MIN_CLAIM_KEY <= len(claim_key) <= _MAX_CLAIM_KEY or not claim_key.isascii():
        raise Rejected(ProblemCode.BAD_REQUEST, "claim_key is not good: send 32 random bytes in base64")
    return hashlib.sha256(claim_key.encode()).hexdigest()


def make_nonce(keys: MacKeys, ticket: Ticket, claim_key_hash: str) -> str:
    """Derive the secret part of a lease token, key id included: by the ticket's key, whatever the current one is."""
    mac = keys.mac(ticket.key_id, "lease", ticket.dispatch, claim_key_hash)
    assert mac is not None, "the ticket was verified with this key"
    return f"{ticket.key_id}.{mac}"


def hash_nonce(nonce: str) -> str:
    """Return what the store keeps of a nonce: the hash of its MAC."""
    return _hash_mac(nonce.rpartition(".")[2])


def _hash_mac(mac: str) -> str:
    return hashlib.sha256(mac.encode()).hexdigest()


def make_lease_token(item: ItemRef, fence: int, nonce: str) -> str:
    """Put a lease token together."""
    return f"{_LEASE}.{SHARD}.{item}.{fence}.{nonce}"


def parse_lease_token(token: str) -> LeaseClaim:
    """Read a lease token.

    Raises:
        Rejected: `unauthenticated` when it is none.
    """
    front = token.split(".", 2)
    back = front[-1].rsplit(".", 3)
    has_its_parts = len(front) == 3 and front[:2] == [_LEASE, SHARD] and len(back) == 4
    if token.isascii() and has_its_parts and _FENCE.fullmatch(back[1]):
        item, fence, _, mac = back
        try:
            return LeaseClaim(parse_item(item, None), int(fence), _hash_mac(mac))
        except BadName:
            pass  # answered below, like any other text that is no lease token
    raise Rejected(ProblemCode.UNAUTHENTICATED, "this is no lease token: send the one that the claim was answered with")

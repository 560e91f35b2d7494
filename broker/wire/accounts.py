"""Who a token speaks for, and whether the broker is there."""

from typing import Literal

from broker.wire.kinds import Message


class Alive(Message, frozen=True, kw_only=True):
    """`GET /healthz`: the process answers; `GET /readyz`: the store does, too."""

    status: Literal["ok", "ready"]


class WhoAmI(Message, frozen=True, kw_only=True):
    """`GET /v1/whoami`: the name in the token, what it allows, and until when (RFC 3339)."""

    user: str
    scopes: list[str]
    expires_at: str

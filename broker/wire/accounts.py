"""Who a token speaks for."""

from broker.wire.kinds import Message


class WhoAmI(Message, frozen=True, kw_only=True):
    """`GET /v1/whoami`: the name in the token, what it allows, and until when (RFC 3339)."""

    user: str
    scopes: list[str]
    expires_at: str

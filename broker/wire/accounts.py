"""Who a token speaks for, and whether the broker is there."""

from typing import Literal

from broker.wire.kinds import FromPerson, Message


class Alive(Message, frozen=True, kw_only=True):
    """`GET /healthz`: the process answers; `GET /readyz`: the store does, too."""

    status: Literal["ok", "ready"]


class WhoAmI(Message, frozen=True, kw_only=True):
    """`GET /v1/whoami`: the name in the token, what it allows, until when (RFC 3339), and by which id it is revoked."""

    user: str
    scopes: list[str]
    expires_at: str
    token_id: str = ""


class UserSettings(FromPerson, frozen=True, kw_only=True):
    """`PUT /v1/users/{user}`: a user's share and bounds; what is left out is as it is for everybody."""

    weight: int = 1
    """Of two users with ready items, one with twice the weight is given twice as many vcpu-seconds."""
    most_items: int | None = None
    most_bytes: int | None = None
    most_streams: int | None = None
    most_file_bytes: int | None = None
    most_image_bytes: int | None = None
    targets: tuple[str, ...] | None = None
    """Where targets of the user's streams may be: prefixes like `file:`, `s3://lab/results` (Amazon's; of another
    endpoint `https://HOST/BUCKET`), `https://up.example/in`."""


class UserView(Message, frozen=True, kw_only=True):
    """`GET /v1/users/{user}`: what a user has of what they may have; `bytes` of URLs, names and parameters."""

    user: str
    weight: int
    items: int
    most_items: int
    bytes: int
    most_bytes: int
    streams: int
    most_streams: int
    file_bytes: int
    most_file_bytes: int
    image_bytes: int
    most_image_bytes: int
    targets: tuple[str, ...] | None = None
    """Where targets may be; absent: anywhere."""

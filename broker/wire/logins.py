"""Logging in, and tokens: what people and operators send, and what they are given."""

from broker.wire.kinds import FromPerson, Message

MAX_NAME_CHARS = 100


class LogIn(FromPerson, frozen=True, kw_only=True):
    """`POST /v1/login`: with a one-time `code`, or with the word of an `issuer`: an `id_token` of OpenID Connect.

    `login_key` is 32 random bytes in base64, made anew for each login and kept until it is answered: sent again with
    the same code, it gets the same answer. `name` says where the login is kept, for the list of them.
    """

    login_key: str
    code: str = ""
    issuer: str = ""
    id_token: str = ""
    name: str = ""


class LoggedIn(Message, frozen=True, kw_only=True):
    """The login: `login` renews tokens until `login_ends_at`, and is shown nowhere else; the first token is there."""

    user: str
    login_id: str
    login: str
    login_ends_at: str
    token: str
    ends_at: str


class Renewed(Message, frozen=True, kw_only=True):
    """`POST /v1/login/token`: a new token; the login is good for so much longer."""

    user: str
    token: str
    ends_at: str
    login_ends_at: str


class LoginIssuer(Message, frozen=True, kw_only=True):
    """An institution whose word the broker takes, for a device flow (RFC 8628) with its addresses."""

    issuer: str
    client_id: str


class LoginMethods(Message, frozen=True, kw_only=True):
    """`GET /v1/login`: how one can log in, beside a one-time code."""

    issuers: list[LoginIssuer]


class NewCode(FromPerson, frozen=True, kw_only=True):
    """`POST /v1/users/{user}/codes`: whether it makes an operator, and for how long it may be used."""

    is_operator: bool = False
    life_s: int | None = None


class CodeGiven(Message, frozen=True, kw_only=True):
    """A one-time code to hand over; it is shown once."""

    user: str
    code: str
    ends_at: str


class NewToken(FromPerson, frozen=True, kw_only=True):
    """`POST /v1/tokens`: a token of no more than one's own scopes, and of no longer life.

    Without `scopes` it has all of its maker's, without `life_s` it ends with its maker. `launcher` binds a launcher's
    token to one of that name.
    """

    name: str = ""
    scopes: list[str] | None = None
    life_s: int | None = None
    launcher: str | None = None


class NewSiteToken(FromPerson, frozen=True, kw_only=True):
    """`POST /v1/sites/{site}/tokens`: whom the site's launchers may serve, what it vouches for, how much they may hold.

    Without `users` everybody; `most_dispatches` is what all of its launchers may hold at once.
    """

    name: str = ""
    users: list[str] | None = None
    labels: list[str] = []
    most_dispatches: int | None = None
    launcher: str | None = None
    life_s: int | None = None


class TokenGiven(Message, frozen=True, kw_only=True):
    """A token; it is shown once."""

    id: str
    token: str
    scopes: list[str]
    ends_at: str


class TokenView(Message, frozen=True, kw_only=True):
    """`GET /v1/tokens`: what is known of a login (`login`), a token made by somebody (`token`), or a site's (`site`).

    `by` is what it was made with and ends with; the last one made it. Times are RFC 3339.
    """

    id: str
    kind: str
    subject: str
    name: str
    scopes: list[str]
    created_at: str
    ends_at: str
    labels: list[str] = []
    by: list[str] = []
    launcher: str | None = None
    most_dispatches: int | None = None


class TokenPage(Message, frozen=True, kw_only=True):
    """What may be revoked, the ones that end last first."""

    tokens: list[TokenView]


class Revoked(Message, frozen=True, kw_only=True):
    """How many were revoked: those named, and those made with them."""

    revoked: int

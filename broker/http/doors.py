"""Doors: what proves that a request may pass, checked before its handler runs."""

from enum import StrEnum

from aiohttp import web

from broker.auth.tokens import Principal
from broker.domain.errors import Rejected
from broker.domain.scopes import Authority
from broker.http.call import Services, allow, file_of
from broker.wire.problems import ProblemCode

OWN = "(own)"
"""In a route's `over`: whatever is the token's own."""


class Proof(StrEnum):
    """What a route asks for."""

    NOTHING = "nothing"
    TOKEN = "token"  # noqa: S105 # the name of a kind of proof
    TOKEN_OR_SIGNATURE = "token, or a signed address"  # noqa: S105 # the name of a kind of proof
    TICKET = "ticket in the body"
    LEASE = "lease token"


def bearer(request: web.Request) -> str | None:
    """Return the token of the Authorization header."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def check_token(
    request: web.Request, services: Services, authority: Authority | None, over: tuple[str, ...]
) -> Principal:
    """Verify the request's token, and that it holds `authority` over the parts of the address named by `over`.

    Raises:
        Rejected: `unauthenticated`, `forbidden` or `not_found`.
    """
    token = bearer(request)
    if token is None:
        raise Rejected(
            ProblemCode.UNAUTHENTICATED,
            "the request carries no token: send Authorization: Bearer …; the `broker` command finds it in login.json, "
            "BEARER_TOKEN or BEARER_TOKEN_FILE",
        )
    principal = services.tokens.verify(token)
    if authority is Authority.DISPATCH:
        _check_launcher(principal)
    elif authority is not None:
        allow(principal, authority, _path(request, principal, over))
    return principal


def check_signature(request: web.Request, services: Services) -> None:
    """Check a signed address.

    Raises:
        Rejected: `forbidden`.
    """
    services.urls.check(request.method, request.path, request.query)


def _check_launcher(principal: Principal) -> None:
    # Whom it may serve is asked for each user with ready work.
    if not principal.scopes.name(Authority.DISPATCH):
        raise Rejected(
            ProblemCode.FORBIDDEN, f"the token is no launcher's: it would need the scope {Authority.DISPATCH}"
        )


def _path(request: web.Request, principal: Principal, over: tuple[str, ...]) -> tuple[str, ...]:
    if over == (OWN,):
        return (principal.subject,)
    if "path" in over:
        file = file_of(request)
        return (file.user, *file.segments)
    return tuple(request.match_info[part] for part in over)

"""Doors: what proves that a request may pass, checked before its handler runs."""

from collections.abc import Awaitable, Callable
from enum import StrEnum

from aiohttp import web

from broker.auth.login_secrets import is_login, login_over, verify_login
from broker.auth.tokens import Principal, revoked
from broker.domain.errors import Rejected
from broker.domain.limits import default
from broker.domain.scopes import Authority, parse_scopes
from broker.http.call import Services, allow, file_of, folder_of
from broker.wire.problems import ProblemCode

OWN = "(own)"
"""In a route's `over`: whatever is the token's own."""
LOGIN_LIFE_MS = 90 * 86_400_000
"""A login that is not used for so long is over."""


Door = Callable[[web.Request, Services], Awaitable[Principal | None]]
"""Returns who asks, where a request may pass."""


class Proof(StrEnum):
    """What a route asks for."""

    NOTHING = "nothing"
    TOKEN = "token"  # noqa: S105 # the name of a kind of proof
    TOKEN_OR_SIGNATURE = "token, or a signed address"  # noqa: S105 # the name of a kind of proof
    TICKET = "ticket in the body"
    LEASE = "lease token"
    CODE = "one-time code in the body"
    LOGIN = "login"
    TOKEN_OR_LOGIN = "token, or a login"  # noqa: S105 # the name of a kind of proof


def bearer(request: web.Request) -> str | None:
    """Return the token of the Authorization header."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


async def check_token(
    request: web.Request, services: Services, authority: Authority | None, over: tuple[str, ...]
) -> Principal:
    """Verify the request's token, and that it holds `authority` over the parts of the address named by `over`.

    Raises:
        Rejected: `unauthenticated`, `forbidden` or `not_found`.
        Unavailable: nobody knows what was revoked.
    """
    principal = await _verified(_borne(request), services)
    if authority is Authority.DISPATCH:
        _check_launcher(principal)
    elif authority is not None:
        allow(principal, authority, _path(request, principal, over))
    return principal


async def _verified(token: str, services: Services) -> Principal:
    await services.revocations.make_sure()
    if not services.outside.knows(token):
        return services.tokens.verify(token)
    principal = await services.outside.verify(token)
    if services.revocations.includes(principal):
        raise revoked()
    return principal


async def check_login(request: web.Request, services: Services) -> Principal:
    """Verify the request's login, which is good for longer by it, and return what tokens of it may do.

    Raises:
        Rejected: `unauthenticated`.
        Unavailable: the store does not answer.
    """
    login_id = verify_login(services.keys.mac, _borne(request))
    login = await services.store.renew_login(login_id, life_ms=LOGIN_LIFE_MS, most_ms=default("token_life_s") * 1_000)
    if login is None:
        raise login_over()
    return Principal(login.user, parse_scopes(login.scopes), login.login_id, login.ends_ms // 1_000)


async def check_token_or_login(request: web.Request, services: Services) -> Principal:
    """Verify the request's token or login, whichever it carries.

    Raises:
        Rejected, Unavailable: as for the one that it is.
    """
    if is_login(bearer(request) or ""):
        return await check_login(request, services)
    return await check_token(request, services, None, ())


async def check_token_or_signature(
    request: web.Request, services: Services, authority: Authority | None, over: tuple[str, ...]
) -> Principal | None:
    """Check a signed address, which is nobody's; or as `check_token`.

    Raises:
        Rejected: `forbidden`: the signature is none; or as `check_token`.
        Unavailable: as `check_token`.
    """
    if not services.urls.is_signed(request.query):
        return await check_token(request, services, authority, over)
    # Who may have a file's bytes may ask for their size, as programs do that are given a share.
    is_of_files = request.path.startswith("/v1/files/")
    method = "GET" if request.method == "HEAD" and is_of_files else request.method
    services.urls.check(method, request.path, request.query)
    return None


def _borne(request: web.Request) -> str:
    token = bearer(request)
    if token is None:
        raise Rejected(
            ProblemCode.UNAUTHENTICATED,
            "the request carries no token: send Authorization: Bearer …; the `broker` command finds it where "
            "`broker login` put it, in BEARER_TOKEN or in BEARER_TOKEN_FILE",
        )
    return token


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
    if "folder" in over:
        folder = folder_of(request)
        return (folder.user, *folder.segments)
    return tuple(request.match_info[part] for part in over)

"""The page that says who may do what: each route, and how its door answers each kind of caller."""

from enum import StrEnum

from broker.auth.tokens import Principal
from broker.domain.errors import Rejected
from broker.domain.scopes import Authority, Scopes, scopes_of_launcher, scopes_of_operator, scopes_of_user
from broker.http.call import allow
from broker.http.doors import OWN, Proof
from broker.http.route import Route
from broker.http.routes import ROUTES
from broker.wire.problems import PROBLEMS
from docs.generator.layout import page, table

OWNER, OTHER, OPERATOR = "alice", "bob", "carol"


class Caller(StrEnum):
    """Kinds of callers; the things asked for are alice's."""

    NOBODY = "nobody"
    OWNER = "their user"
    OTHER = "another user"
    OPERATOR = "operator"
    LAUNCHER = "launcher"
    GUEST = "guest of an item"
    LOGIN = "login"


SCOPES: dict[Caller, tuple[str, Scopes]] = {
    Caller.OWNER: (OWNER, scopes_of_user(OWNER)),
    Caller.OTHER: (OTHER, scopes_of_user(OTHER)),
    Caller.OPERATOR: (OPERATOR, scopes_of_operator(OPERATOR)),
    Caller.LAUNCHER: ("local", scopes_of_launcher()),
}
"""Those who have a token: its subject, and what it allows."""
LET_IN = 200


def door_of(route: Route, caller: Caller) -> int:
    """Return the status with which the door refuses, or `LET_IN`.

    What the handler then says is another matter; where the table asks for no authority, it looks at the scopes itself.
    """
    match route.proof:
        case Proof.NOTHING:
            return LET_IN
        case Proof.TICKET | Proof.CODE:
            return 401  # whoever is on the list; the ticket or code is in the body
        case Proof.LOGIN:
            return LET_IN if caller is Caller.LOGIN else 401
        case Proof.TOKEN_OR_LOGIN if caller is Caller.LOGIN:
            return LET_IN
        case Proof.LEASE:
            return LET_IN if caller is Caller.GUEST else 401
    if caller not in SCOPES:
        return 401
    subject, scopes = SCOPES[caller]
    if route.authority is None:
        return LET_IN
    if route.authority is Authority.DISPATCH:
        return LET_IN if scopes.name(Authority.DISPATCH) else 403
    try:
        allow(Principal(subject, scopes, "", 0), route.authority, _asked_for(route, subject))
    except Rejected as error:
        return PROBLEMS[error.code].status
    return LET_IN


def _asked_for(route: Route, subject: str) -> tuple[str, ...]:
    if route.over == (OWN,):
        return (subject,)
    return tuple(OWNER if part == "user" else part for part in route.over)


def who_may_do_what() -> str:
    """Return the page."""
    return page(
        "Who may do what",
        "Each address, and how its door answers. What is asked for is one user's; the callers are that user, another\n"
        "one, an operator (who is a user, too), a launcher that serves everybody, the guest of one item with its\n"
        "lease, and whoever shows a person's login, which is no token. A number is the status of the refusal: 404\n"
        "where a caller may not even learn whether it exists. Tests ask every route as each of them, and with forged,\n"
        "expired, revoked and foreign tokens, which are answered 401.",
        "*own*: of what is the caller's own. *in sight*: what the caller's scopes reach, or was shared with them;\n"
        "anything else is answered as what is not there.",
        "Beside this table: a ticket opens `POST /v1/claim`, and a one-time code `POST /v1/login`, once each; a\n"
        "signed address opens one file or image for one method for a quarter of an hour; a launcher reaches only the\n"
        "dispatches that it took, a guest only the item of its lease.",
        table(("method", "path", *(caller.value for caller in Caller)), map(_row, ROUTES)),
    )


def _row(route: Route) -> tuple[str, ...]:
    return route.method, f"`{route.address}`", *(_cell(route, caller) for caller in Caller)


def _cell(route: Route, caller: Caller) -> str:
    answer = door_of(route, caller)
    if route.proof in {Proof.TICKET, Proof.CODE}:
        return "with a ticket" if route.proof is Proof.TICKET else "with a code"
    if answer != LET_IN:
        return str(answer)
    if route.proof in {Proof.LOGIN, Proof.TOKEN_OR_LOGIN}:
        return "own"
    if route.proof in {Proof.TOKEN, Proof.TOKEN_OR_SIGNATURE} and route.authority is None:
        return "in sight"
    return "own" if route.over == (OWN,) else "yes"

"""Tokens that people and operators make for programs and sites: made, listed, revoked.

What is made is within its maker: no more scopes, no longer life, and revoked with it. A site's token alone is made of
an operator's right, since it serves others than its maker.
"""

import re
from collections.abc import Iterable, Sequence

import structlog
from aiohttp import web

from broker.auth.tokens import Principal, new_token_id
from broker.domain.errors import Rejected
from broker.domain.paths import BadPath
from broker.domain.scopes import Authority, Scopes, parse_scopes, scopes_of_launcher
from broker.http.call import Call, allow, bounded, check_users, json_answer, limit, rfc3339_of
from broker.http.contract import NOT_SEEN, operation
from broker.http.parameters import SITE, USER
from broker.store import NewRecord
from broker.wire.logins import (
    MAX_NAME_CHARS,
    NewSiteToken,
    NewToken,
    Revoked,
    TokenGiven,
    TokenPage,
    TokenView,
)
from broker.wire.names import check_name
from broker.wire.problems import ProblemCode

_SITE_LIFE_S = 90 * 86_400
_MOST_ANCESTORS = 8
_MOST_SCOPES = 100
_SCOPE_CHARS = 500
_MOST_DISPATCHES = 1_000_000
_ID = re.compile(r"[!-~]{1,200}")

log = structlog.get_logger(__name__)


@operation(takes=NewToken, answers=TokenGiven, problems=(ProblemCode.FORBIDDEN, ProblemCode.QUOTA_EXCEEDED))
async def make_token(call: Call) -> web.Response:
    """Make a token of no more than one's own scopes and life; it is revoked with what it was made with."""
    body, maker = await call.body(NewToken), call.who
    if len(maker.by) >= _MOST_ANCESTORS:
        raise Rejected(
            ProblemCode.FORBIDDEN, f"the token was made with {len(maker.by)} others: make this one with yours"
        )
    launcher = maker.launcher if body.launcher is None else check_name(body.launcher, "launcher")
    if maker.launcher not in {None, launcher} or (launcher is not None and not maker.is_launcher):
        raise Rejected(ProblemCode.FORBIDDEN, f"the token that makes this one cannot speak as the launcher {launcher}")
    return await _give(
        call,
        Principal(
            maker.subject,
            _within(maker, body.scopes),
            new_token_id(),
            _end(call, body.life_s, maker.expires_at_s, "the token that it is made with"),
            maker.labels,
            maker.ids,
            launcher,
            maker.most_dispatches,
        ),
        kind="token",
        name=body.name,
    )


@operation(takes=NewSiteToken, answers=TokenGiven, problems=(ProblemCode.QUOTA_EXCEEDED,))
async def make_site_token(call: Call) -> web.Response:
    """Make a token for a site's launchers: whom they may serve, what it vouches for, how much they may hold."""
    body = await call.body(NewSiteToken)
    users = None if body.users is None else tuple(body.users)
    check_users(users or ())
    most = body.most_dispatches
    if most is not None and not 1 <= most <= _MOST_DISPATCHES:
        raise Rejected(ProblemCode.BAD_REQUEST, f"most_dispatches is {most}: a number from 1 to {_MOST_DISPATCHES}")
    last_s = call.services.tokens.now_s() + limit("token_life_s")
    life_s = _SITE_LIFE_S if body.life_s is None else body.life_s
    return await _give(
        call,
        Principal(
            check_name(call.request.match_info["site"], "site"),
            scopes_of_launcher(users),
            new_token_id(),
            _end(call, life_s, last_s, "the longest life of a token"),
            frozenset(_labels(body.labels)),
            launcher=None if body.launcher is None else check_name(body.launcher, "launcher"),
            most_dispatches=most,
        ),
        kind="site",
        name=body.name,
    )


@operation(answers=TokenPage, problems=NOT_SEEN, parameters=(USER, SITE))
async def list_tokens(call: Call) -> web.Response:
    """Send the logins and tokens of a user or a site that may be revoked; none of them is shown itself."""
    query = call.query("user", "site")
    if "site" in query:
        owner = f"site/{check_name(query['site'], 'site')}"
    else:
        owner = f"user/{check_name(query['user'], 'user')}" if "user" in query else owner_of(call.who)
    _check_may_look(call.who, owner)
    return json_answer(TokenPage(tokens=await call.services.store.tokens_of(owner)))


@operation(answers=TokenPage)
async def list_sites(call: Call) -> web.Response:
    """Send the tokens of all sites."""
    store = call.services.store
    of_each = [await store.tokens_of(f"site/{site}") for site in await store.sites()]
    return json_answer(TokenPage(tokens=[view for views in of_each for view in views]))


@operation(answers=Revoked, problems=(ProblemCode.FORBIDDEN, ProblemCode.NOT_FOUND, ProblemCode.QUOTA_EXCEEDED))
async def revoke_token(call: Call) -> web.Response:
    """Revoke a login or a token, and whatever was made with it: within five seconds nothing takes it any more."""
    token_id = call.request.match_info["token"]
    if not _ID.fullmatch(token_id):
        raise Rejected(ProblemCode.NOT_FOUND, f"there is no token {token_id[:64]!r}")
    owner = await call.services.store.owner_of(token_id)
    if token_id in call.who.ids:
        # Whoever holds a token may always put an end to it; what it was made with is another matter.
        if token_id != call.who.token_id:
            _check_may_change(call.who, owner)
        unknown_until_s = call.who.expires_at_s
    else:
        _check_may_change(call.who, owner)
        unknown_until_s = call.services.tokens.now_s() + limit("token_life_s")
    made_with = [] if owner is None else _made_with([token_id], await call.services.store.tokens_of(owner))
    return await _revoke(call, [token_id, *made_with], unknown_until_s * 1_000)


@operation(answers=Revoked, problems=(ProblemCode.QUOTA_EXCEEDED,))
async def revoke_user(call: Call) -> web.Response:
    """Log a user out everywhere: every login and token of theirs is revoked."""
    owner = f"user/{check_name(call.request.match_info['user'], 'user')}"
    return await _revoke(call, [view.id for view in await call.services.store.tokens_of(owner)])


@operation(answers=Revoked, problems=(ProblemCode.QUOTA_EXCEEDED,))
async def revoke_site(call: Call) -> web.Response:
    """Revoke every token of a site: its launchers are given nothing more, and what they hold is given to others."""
    owner = f"site/{check_name(call.request.match_info['site'], 'site')}"
    return await _revoke(call, [view.id for view in await call.services.store.tokens_of(owner)])


def owner_of(who: Principal) -> str:
    """Return under whose name a token's own are listed: a site and a user of one name have nothing in common."""
    return f"{'site' if who.is_launcher else 'user'}/{who.subject}"


async def _give(call: Call, made: Principal, *, kind: str, name: str) -> web.Response:
    await call.services.store.keep_token(
        NewRecord(
            owner=owner_of(made),
            token_id=made.token_id,
            kind=kind,
            name=bounded(name, MAX_NAME_CHARS),
            subject=made.subject,
            scopes=str(made.scopes),
            ends_ms=made.expires_at_s * 1_000,
            labels=tuple(sorted(made.labels)),
            by=made.by,
            launcher=made.launcher or "",
            most_dispatches=made.most_dispatches,
        )
    )
    log.info("token_made", token=made.token_id, kind=kind, subject=made.subject, by=call.who.subject)
    return json_answer(
        TokenGiven(
            id=made.token_id,
            token=call.services.tokens.sign(made),
            scopes=sorted(str(scope) for scope in made.scopes),
            ends_at=rfc3339_of(made.expires_at_s),
        )
    )


async def _revoke(call: Call, token_ids: Sequence[str], unknown_until_ms: int = 0) -> web.Response:
    revoked = await call.services.store.revoke(token_ids, unknown_until_ms=unknown_until_ms) if token_ids else 0
    # Whoever is answered here finds it so in this process; the others look within two seconds.
    await call.services.revocations.look()
    log.info("tokens_revoked", tokens=list(token_ids), by=call.who.subject)
    return json_answer(Revoked(revoked=revoked))


def _made_with(ids: Sequence[str], views: Iterable[TokenView]) -> list[str]:
    return [view.id for view in views if not set(ids).isdisjoint(view.by)]


def _check_may_look(who: Principal, owner: str) -> None:
    kind, _, name = owner.partition("/")
    is_own_site = kind == "site" and who.is_launcher and who.subject == name
    if who.may(Authority.ADMIN) or is_own_site:
        return
    if kind == "site":
        allow(who, Authority.ADMIN, ())
    allow(who, Authority.READ, (name,))


def _check_may_change(who: Principal, owner: str | None) -> None:
    if who.may(Authority.ADMIN):
        return
    kind, _, name = (owner or "site/").partition("/")
    if kind == "site":
        raise Rejected(ProblemCode.NOT_FOUND, "there is no such token, or the token you use may not see it")
    allow(who, Authority.MODIFY, (name,))


def _within(maker: Principal, wanted: list[str] | None) -> Scopes:
    """Return the scopes that a new token is given.

    Raises:
        Rejected: `forbidden`: its maker has them not; `bad_request`: they are none.
    """
    if wanted is None:
        return maker.scopes
    if not 1 <= len(wanted) <= _MOST_SCOPES or any(len(text) > _SCOPE_CHARS for text in wanted):
        raise Rejected(ProblemCode.BAD_REQUEST, f"a token has 1 to {_MOST_SCOPES} scopes, each as queue.read:/USER/JOB")
    found = Scopes(scope for text in wanted for scope in _scope(text))
    lacking = sorted(str(scope) for scope in found if not maker.scopes.permit(scope.authority, scope.path))
    if lacking:
        raise Rejected(
            ProblemCode.FORBIDDEN, f"the token that makes this one has not the scope {lacking[0]}, so it cannot give it"
        )
    return found


def _scope(text: str) -> Scopes:
    try:
        scopes = parse_scopes(text)
    except BadPath as error:
        raise Rejected(ProblemCode.BAD_REQUEST, str(error)) from error
    if len(scopes) != 1:
        known = ", ".join(authority.value for authority in Authority)
        raise Rejected(ProblemCode.BAD_REQUEST, f"{text!r} is no scope: write AUTHORITY:/PATH, one of {known}")
    return scopes


def _end(call: Call, life_s: int | None, last_s: int, what: str) -> int:
    """Return when a token ends, in seconds of the epoch.

    Raises:
        Rejected: `bad_request`: it would outlive what it may not.
    """
    if life_s is None:
        return last_s
    ends_at_s = call.services.tokens.now_s() + life_s
    if life_s < 1 or ends_at_s > last_s:
        raise Rejected(
            ProblemCode.BAD_REQUEST, f"life_s is {life_s}: at least 1, and {what} ends at {rfc3339_of(last_s)}"
        )
    return ends_at_s


def _labels(labels: Sequence[str]) -> Sequence[str]:
    if len(labels) > limit("token_labels"):
        raise Rejected(ProblemCode.BAD_REQUEST, f"a token vouches for at most {limit('token_labels')} labels")
    for label in labels:
        check_name(label, "label")  # as a stream's `trust` is checked, so that each can be trusted
    return labels

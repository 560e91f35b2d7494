"""Logging in: a one-time code buys a login, a login renews a person's tokens until it is revoked or forgotten."""

from datetime import timedelta
from typing import NamedTuple

import structlog
from aiohttp import web

from broker.auth.login_secrets import hash_code, hash_login_key, hash_word, make_code, make_login
from broker.auth.tokens import Principal, new_token_id
from broker.domain.errors import Conflict, Rejected
from broker.domain.scopes import Scopes, parse_scopes, scopes_of_operator, scopes_of_user
from broker.http.call import Call, bounded, json_answer, limit, rfc3339_of
from broker.http.contract import NOTHING, operation
from broker.http.doors import LOGIN_LIFE_MS
from broker.wire.logins import (
    MAX_NAME_CHARS,
    CodeGiven,
    LoggedIn,
    LogIn,
    LoginIssuer,
    LoginMethods,
    NewCode,
    Renewed,
)
from broker.wire.names import UserName, check_name
from broker.wire.problems import ProblemCode

TOKEN_LIFE = timedelta(hours=4)
"""A person's token, which their login renews: so long is one good that somebody copied."""
_CODE_LIFE = timedelta(days=1)

log = structlog.get_logger(__name__)


@operation(answers=LoginMethods)
async def get_methods(call: Call) -> web.Response:
    """Send how one can log in, beside a one-time code."""
    issuers = call.services.outside.login_issuers
    return json_answer(
        LoginMethods(issuers=[LoginIssuer(issuer=each.issuer, client_id=each.client_id or "") for each in issuers])
    )


@operation(
    takes=LogIn,
    answers=LoggedIn,
    problems=(ProblemCode.CODE_SPENT, ProblemCode.QUOTA_EXCEEDED, ProblemCode.ISSUER_UNAVAILABLE),
)
async def log_in(call: Call) -> web.Response:
    """Spend a one-time code, or an institution's word, on a login; the same again with the same `login_key`."""
    body = await call.body(LogIn, "claim_bytes")
    login_key, name = hash_login_key(body.login_key), bounded(body.name, MAX_NAME_CHARS)
    proved = await _proved(call, body)
    try:
        login = await call.services.store.log_in(
            proved.code_hash,
            new_token_id(),
            login_key,
            name,
            life_ms=LOGIN_LIFE_MS,
            known_as=proved.user,
            scopes="" if proved.user is None else str(scopes_of_user(proved.user)),
        )
    except Conflict as spent:
        log.warning("login_code_spent", reason=spent.detail)
        await call.services.revocations.look()
        raise
    log.info("logged_in", user=login.user, login=login.login_id)
    holder = Principal(login.user, parse_scopes(login.scopes), login.login_id, login.ends_ms // 1_000)
    token, ends_at_s = _token_of(call, holder)
    return json_answer(
        LoggedIn(
            user=login.user,
            login_id=login.login_id,
            login=make_login(call.services.keys.mac, login.login_id),
            login_ends_at=rfc3339_of(holder.expires_at_s),
            token=token,
            ends_at=rfc3339_of(ends_at_s),
        )
    )


@operation(answers=Renewed)
async def renew(call: Call) -> web.Response:
    """Make a new token of a login, which is good for longer by its use."""
    token, ends_at_s = _token_of(call, call.who)
    return json_answer(
        Renewed(
            user=call.who.subject,
            token=token,
            ends_at=rfc3339_of(ends_at_s),
            login_ends_at=rfc3339_of(call.who.expires_at_s),
        )
    )


@operation(answers={204: NOTHING})
async def log_out(call: Call) -> web.Response:
    """Revoke the login, and with it every token that was made of it."""
    await call.services.store.revoke([call.who.token_id])
    await call.services.revocations.look()
    log.info("logged_out", user=call.who.subject, login=call.who.token_id)
    return web.Response(status=204)


@operation(takes=NewCode, answers=CodeGiven)
async def make_login_code(call: Call) -> web.Response:
    """Make a one-time code, with which the user logs in where they are; any number of times, each a code of its own."""
    body = await call.body(NewCode)
    user = UserName(check_name(call.request.match_info["user"], "user"))
    life_s = int(_CODE_LIFE.total_seconds()) if body.life_s is None else body.life_s
    if not 1 <= life_s <= limit("code_life_s"):
        raise Rejected(
            ProblemCode.BAD_REQUEST, f"life_s is {life_s}: a code may be used for 1 to {limit('code_life_s')} s"
        )
    code = make_code()
    scopes = scopes_of_operator(user) if body.is_operator else scopes_of_user(user)
    ends_ms = await call.services.store.keep_code(hash_code(code), user, str(scopes), life_s * 1_000)
    log.info("login_code_made", user=user, by=call.who.subject, is_operator=body.is_operator)
    return json_answer(CodeGiven(user=user, code=code, ends_at=rfc3339_of(ends_ms // 1_000)))


class _Proved(NamedTuple):
    """What a login is bought with: the hash under which it is spent, and the user whom an institution named."""

    code_hash: str
    user: UserName | None = None


async def _proved(call: Call, body: LogIn) -> _Proved:
    if not body.issuer and not body.id_token:
        return _Proved(hash_code(body.code))
    if body.code:
        raise Rejected(ProblemCode.BAD_REQUEST, "log in with a code, or with an issuer and its id_token: not with both")
    user = await call.services.outside.verify_identity(body.issuer, body.id_token)
    return _Proved(hash_word(body.id_token), UserName(user))


def _token_of(call: Call, login: Principal) -> tuple[str, int]:
    """Return a token of a login, and when it ends."""
    tokens = call.services.tokens
    ends_at_s = min(tokens.now_s() + int(TOKEN_LIFE.total_seconds()), login.expires_at_s)
    token = Principal(login.subject, Scopes(login.scopes), new_token_id(), ends_at_s, by=(login.token_id,))
    return tokens.sign(token), ends_at_s

"""Secrets, as their owner keeps them: put, told of, removed. No answer here holds a value, and no log does."""

import structlog
from aiohttp import web

from broker.callbacks.signing import BadKey, read_key
from broker.domain.errors import Rejected
from broker.domain.scopes import Authority
from broker.domain.secrets import check_secret
from broker.http.call import Call, allow, json_answer
from broker.http.contract import NOT_SEEN, NOTHING, operation
from broker.http.parameters import USER
from broker.http.s3_signing import s3_credentials
from broker.wire.names import OwnedName, UserName, check_name
from broker.wire.problems import ProblemCode
from broker.wire.secrets import PutSecret, SecretKind, SecretView

log = structlog.get_logger(__name__)


@operation(takes=PutSecret, answers=SecretView, problems=(ProblemCode.QUOTA_EXCEEDED,))
async def put_secret(call: Call) -> web.Response:
    """Keep a secret sealed, a new one or in place of the one of that name."""
    ref, secret = call.secret, await call.body(PutSecret)
    check_secret(secret)
    if secret.kind is SecretKind.AWS_CREDENTIALS:
        s3_credentials(secret.value)
    if secret.kind is SecretKind.WEBHOOK_KEY:
        _check_webhook_key(secret.value)
    about = (ref.user, ref.name)

    def seal(version: int) -> str:
        return call.services.keys.sealing.seal(secret.value, *about, str(version))

    view = await call.services.store.put_secret(ref, secret.kind, len(secret.value), seal)
    log.info("secret_put", secret=str(ref), version=view.version, by=call.who.subject)
    return json_answer(view)


@operation(answers=SecretView)
async def get_secret(call: Call) -> web.Response:
    """Tell of a secret what is no secret."""
    view = await call.services.store.get_secret(call.secret)
    if view is None:
        raise _no_secret(call.secret)
    return json_answer(view)


@operation(answers={204: NOTHING})
async def delete_secret(call: Call) -> web.Response:
    """Remove a secret: nobody is given it any more. What vms have they keep to their end."""
    if not await call.services.store.delete_secret(call.secret):
        raise _no_secret(call.secret)
    log.info("secret_removed", secret=str(call.secret), by=call.who.subject)
    return web.Response(status=204)


@operation(answers=list[SecretView], problems=NOT_SEEN, parameters=(USER,))
async def list_secrets(call: Call) -> web.Response:
    user = check_name(call.query("user").get("user", call.who.subject), "user")
    allow(call.who, Authority.READ, (user,))
    return json_answer(await call.services.store.list_secrets(UserName(user)))


def _check_webhook_key(value: bytes) -> None:
    try:
        read_key(value)
    except BadKey as error:
        raise Rejected(ProblemCode.BAD_REQUEST, str(error)) from error


def _no_secret(ref: OwnedName) -> Rejected:
    return Rejected(ProblemCode.NOT_FOUND, f"there is no secret {ref}: add it with `broker secret add {ref.name}`")

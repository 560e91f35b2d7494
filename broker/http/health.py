"""Is the broker alive, is it ready, and who am I to it?"""

import asyncio

from aiohttp import web

from broker.domain.errors import Unavailable
from broker.http.call import Call, json_answer, rfc3339_of
from broker.http.contract import operation
from broker.wire.accounts import Alive, WhoAmI
from broker.wire.problems import ProblemCode

_PING_S = 2.0


@operation(answers=Alive)
async def healthz(_: Call) -> web.Response:
    """Say that the process answers."""
    return json_answer(Alive(status="ok"))


@operation(answers=Alive, problems=(ProblemCode.STORE_UNAVAILABLE,))
async def readyz(call: Call) -> web.Response:
    """Say that the store answers, too."""
    try:
        async with asyncio.timeout(_PING_S):
            await call.services.store.ping()
    except TimeoutError as error:
        raise Unavailable(ProblemCode.STORE_UNAVAILABLE, "the store does not answer") from error
    return json_answer(Alive(status="ready"))


@operation(answers=WhoAmI)
async def whoami(call: Call) -> web.Response:
    who = call.who
    return json_answer(
        WhoAmI(
            user=who.subject,
            scopes=sorted(str(scope) for scope in who.scopes),
            expires_at=rfc3339_of(who.expires_at_s),
            token_id=who.token_id,
        )
    )

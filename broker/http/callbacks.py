"""Callbacks, as those see them whose servers are told: what became of each, and once more."""

import structlog
from aiohttp import web

from broker.domain.errors import Rejected
from broker.domain.scopes import Authority
from broker.http.call import Call, allow, json_answer
from broker.http.contract import NOT_SEEN, operation
from broker.http.items import page_limit
from broker.http.parameters import CALLBACK_CURSOR, CALLBACK_STATE, LIMIT, USER
from broker.wire.callbacks import CallbackPage, CallbackState, CallbackView
from broker.wire.names import UserName, check_name
from broker.wire.problems import ProblemCode

log = structlog.get_logger(__name__)


@operation(answers=CallbackPage, problems=NOT_SEEN, parameters=(USER, CALLBACK_STATE, CALLBACK_CURSOR, LIMIT))
async def list_callbacks(call: Call) -> web.Response:
    """Send what a user's servers are told or were told of late: the latest event first, of one state the last change.

    Of those that wait the one that is due next is first.
    """
    query = call.query("user", "state", "cursor", "limit")
    user = check_name(query.get("user", call.who.subject), "user")
    allow(call.who, Authority.READ, (user,))
    state, cursor, most = _state(query.get("state")), query.get("cursor"), page_limit(query)
    return json_answer(await call.services.store.list_callbacks(UserName(user), state, cursor, most))


@operation(answers=CallbackView)
async def replay_callback(call: Call) -> web.Response:
    """Tell a server of an event once more, from the first attempt on, whatever became of it."""
    view = await call.services.store.replay_callback(UserName(call.who.subject), call.request.match_info["callback"])
    log.info("callback_replayed", callback=view.callback, stream=view.stream, by=call.who.subject)
    return json_answer(view)


def _state(text: str | None) -> CallbackState | None:
    try:
        return None if text is None else CallbackState(text)
    except ValueError as error:
        raise Rejected(ProblemCode.BAD_REQUEST, f"state is one of {', '.join(CallbackState)}") from error

"""Users: their share and their bounds. A user sees their own; who runs the broker sees and sets everybody's."""

from aiohttp import web

from broker.domain.scopes import Authority
from broker.http.call import Call, allow, json_answer
from broker.http.contract import NOT_SEEN, operation
from broker.wire.accounts import UserSettings, UserView
from broker.wire.names import UserName, check_name


@operation(answers=UserView, problems=NOT_SEEN)
async def get_user(call: Call) -> web.Response:
    """Send what the user has, and may have."""
    user = _user(call)
    if not call.who.may(Authority.ADMIN):
        allow(call.who, Authority.READ, (user,))
    return json_answer(await call.services.store.get_user(user))


@operation(takes=UserSettings, answers=UserView)
async def put_user(call: Call) -> web.Response:
    """Set the user's weight in fair shares, and bounds other than everybody's."""
    return json_answer(await call.services.store.put_user(_user(call), await call.body(UserSettings)))


def _user(call: Call) -> UserName:
    return UserName(check_name(call.request.match_info["user"], "user"))

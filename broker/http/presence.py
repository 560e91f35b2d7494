"""Launchers as they tell of themselves, and who may look at them.

An operator (`queue.admin`) sees all of every launcher, a site all of those that its own token speaks for. A user sees
those that would serve them, as far as it tells where their items may run: not whom to write to about a node, nor what
its health is put down to in words, which may hold paths and names of the site's.
"""

import re
from urllib.parse import quote, unquote

import msgspec
from aiohttp import web

from broker.auth.tokens import Principal
from broker.domain.errors import Rejected
from broker.domain.scopes import Authority, parse_scopes
from broker.http.call import Call, bounded, check_room, check_users, json_answer, limit, speaker
from broker.http.contract import NOTHING, operation
from broker.http.parameters import LAUNCHER_CURSOR, LIMIT, LISTED_STATE
from broker.store import KnownLauncher
from broker.wire.kinds import in_full
from broker.wire.launchers import (
    MAX_LABEL_CHARS,
    MAX_LABELS,
    Health,
    LauncherPage,
    LauncherReport,
    LauncherTold,
    LauncherView,
    ListedState,
)
from broker.wire.problems import ProblemCode

_PAGE_LAUNCHERS = 100
_READ_LAUNCHERS = 500
"""Records that are read at once while a page is filled with those that the asker may see."""
_COUNT = re.compile(r"[0-9]{1,9}")
_TIME_CHARS = 40


@operation(takes=LauncherReport, answers=LauncherTold, problems=(ProblemCode.TOO_MANY_LAUNCHERS,))
async def put_launcher(call: Call) -> web.Response:
    """Note what a launcher tells of itself; it counts as heard."""
    report = _bounded(await call.body(LauncherReport))
    size_bytes, most_bytes = len(msgspec.json.encode(report)), limit("report_bytes")
    if size_bytes > most_bytes:
        raise Rejected(
            ProblemCode.TOO_LARGE,
            f"what the launcher tells of itself has {size_bytes} bytes, at most {most_bytes} are kept: give it fewer "
            "users and labels, or shorter texts",
        )
    launcher = speaker(call, call.request.match_info["name"])
    await call.services.store.report_launcher(launcher, report, str(call.who.scopes), call.who.labels)
    return json_answer(LauncherTold(next_ms=call.services.deadlines.heartbeat_ms))


@operation(answers={204: NOTHING})
async def delete_launcher(call: Call) -> web.Response:
    """Forget a launcher that ends: of those it is not listed any more."""
    await call.services.store.remove_launcher(speaker(call, call.request.match_info["name"]))
    return web.Response(status=204)


@operation(answers=LauncherPage, problems=(ProblemCode.FORBIDDEN,), parameters=(LISTED_STATE, LAUNCHER_CURSOR, LIMIT))
async def list_launchers(call: Call) -> web.Response:
    """Send a page of the launchers that the token may see, those that are there first."""
    query = call.query("state", "cursor", "limit")
    check_may_look(call.who)
    wanted = query.get("limit", str(_PAGE_LAUNCHERS))
    if not _COUNT.fullmatch(wanted) or not 1 <= int(wanted) <= limit("page_items"):
        raise Rejected(ProblemCode.BAD_REQUEST, f"limit is a number from 1 to {limit('page_items')}")
    page = await _page(call, _state(query.get("state")), _after(query.get("cursor")), int(wanted))
    cursor = {} if page.cursor is None else {"cursor": page.cursor}
    return json_answer({"launchers": [in_full(view) for view in page.launchers], **cursor})


async def _page(call: Call, state: ListedState | None, after: tuple[bool, str] | None, wanted: int) -> LauncherPage:
    store = call.services.store
    heard = [each for each in await store.heard_launchers() if after is None or (each.is_gone, each.launcher) > after]
    shown: list[LauncherView] = []
    for start in range(0, len(heard), _READ_LAUNCHERS):
        for known in await store.known_launchers(heard[start : start + _READ_LAUNCHERS]):
            view = _seen_by(call.who, known)
            if view is None or state not in {None, _listed_as(view)}:
                continue
            if len(shown) == wanted:
                return LauncherPage(launchers=shown, cursor=_cursor(shown[-1]))
            shown.append(view)
    return LauncherPage(launchers=shown)


def _listed_as(view: LauncherView) -> str:
    return ListedState.GONE if view.is_gone else view.report.health.state


def check_may_look(who: Principal) -> None:
    """Check that the token is an operator's, a site's, or of somebody whose items may run.

    Raises:
        Rejected: `forbidden`.
    """
    if who.may(Authority.ADMIN) or who.scopes.name(Authority.DISPATCH) or who.may(Authority.READ, who.subject):
        return
    wanted = f"{Authority.READ}:/{who.subject}"
    raise Rejected(ProblemCode.FORBIDDEN, f"the token does not allow this: it would need the scope {wanted}")


def serves(known: KnownLauncher, user: str) -> bool:
    """Tell whether a launcher would serve the user, by its token and by its site's list."""
    users = known.view.report.users
    return (not users or user in users) and parse_scopes(known.serves).permit(Authority.DISPATCH, (user,))


def _seen_by(who: Principal, known: KnownLauncher) -> LauncherView | None:
    """Return what the asker may see of a launcher, or None."""
    view = known.view
    is_of_own_token = who.scopes.name(Authority.DISPATCH) and view.launcher.startswith(f"{who.party}/")
    if who.may(Authority.ADMIN) or is_of_own_token:
        return view
    if not who.may(Authority.READ, who.subject) or not serves(known, who.subject):
        return None
    health = msgspec.structs.replace(view.report.health, sentence="")
    report = msgspec.structs.replace(view.report, contact="", users=(), health=health)
    return msgspec.structs.replace(view, report=report)


def _bounded(report: LauncherReport) -> LauncherReport:
    """Cut what a launcher says of itself to what is kept of it.

    Raises:
        Rejected: a room or a name that none has.
    """
    check_room(report.total, "total")
    if report.free is not None:
        check_room(report.free, "free")
    if not 0 <= report.vms < 1 << 20:
        raise Rejected(ProblemCode.BAD_REQUEST, f"vms is {report.vms}: tell how many run")
    check_users(report.users)
    labels = list(report.labels.items())[:MAX_LABELS]
    return msgspec.structs.replace(
        report,
        node=bounded(report.node, 255),
        client=bounded(report.client, 200),
        contact=bounded(report.contact, 200),
        labels={name[:MAX_LABEL_CHARS]: value[:MAX_LABEL_CHARS] for name, value in labels},
        health=_bounded_health(report.health),
    )


def _bounded_health(health: Health) -> Health:
    return msgspec.structs.replace(
        health,
        sentence=bounded(health.sentence, 1_000),
        faults=max(0, min(health.faults, 1 << 20)),
        since=None if health.since is None else bounded(health.since, _TIME_CHARS),
        retry_at=None if health.retry_at is None else bounded(health.retry_at, _TIME_CHARS),
    )


def _state(text: str | None) -> ListedState | None:
    if text is None:
        return None
    try:
        return ListedState(text)
    except ValueError as error:
        raise Rejected(ProblemCode.BAD_REQUEST, f"state is one of {', '.join(ListedState)}") from error


def _cursor(last: LauncherView) -> str:
    return f"{int(last.is_gone)}-{quote(last.launcher, safe='')}"


def _after(cursor: str | None) -> tuple[bool, str] | None:
    if cursor is None:
        return None
    is_gone, dash, launcher = cursor.partition("-")
    if is_gone not in {"0", "1"} or not dash:
        raise Rejected(ProblemCode.BAD_REQUEST, f"{cursor[:64]!r} is no cursor: pass cursor of the page before")
    return is_gone == "1", unquote(launcher)

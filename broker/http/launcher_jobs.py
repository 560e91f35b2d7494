"""Launcher jobs: what is ready for launchers, and what became of those that were submitted.

Who may look is who may look at launchers: the operator sees all, a site its own token's, a user those that would serve
them, without the list of whom else they serve.
"""

import msgspec
from aiohttp import web

from broker.auth.tokens import Principal
from broker.domain.errors import Rejected
from broker.domain.scopes import Authority, parse_scopes
from broker.http.call import Call, bounded, check_users, json_answer, speaker
from broker.http.contract import NOTHING, operation
from broker.http.presence import check_may_look
from broker.store import KnownJobs
from broker.wire.jobs import DemandPage, JobsPage, JobsReport, JobsView
from broker.wire.kinds import in_full
from broker.wire.problems import ProblemCode

_MOST_JOBS = 1 << 30
_PLACE_CHARS = 200
_SENTENCE_CHARS = 1_000
_TIME_CHARS = 40


@operation(answers=DemandPage)
async def get_demand(call: Call) -> web.Response:
    """Send what is ready for launchers of the token."""
    scopes = call.who.scopes
    page = await call.services.store.demand(lambda user: scopes.permit(Authority.DISPATCH, (user,)), call.who.labels)
    return json_answer(in_full(page))


@operation(takes=JobsReport, answers={204: NOTHING})
async def put_jobs(call: Call) -> web.Response:
    """Note what a submitter tells of its launcher jobs."""
    report = _bounded(await call.body(JobsReport))
    submitter = speaker(call, call.request.match_info["name"])
    await call.services.store.report_jobs(submitter, report, str(call.who.scopes))
    return web.Response(status=204)


@operation(answers={204: NOTHING})
async def delete_jobs(call: Call) -> web.Response:
    """Forget a submitter that has no launcher jobs any more."""
    await call.services.store.remove_jobs(speaker(call, call.request.match_info["name"]))
    return web.Response(status=204)


@operation(answers=JobsPage, problems=(ProblemCode.FORBIDDEN,))
async def list_jobs(call: Call) -> web.Response:
    """Send what submitters told in the last day, as far as the token may see it."""
    check_may_look(call.who)
    seen = [_seen_by(call.who, known) for known in await call.services.store.known_jobs()]
    return json_answer(in_full(JobsPage(jobs=[view for view in seen if view is not None])))


def serves(known: KnownJobs, user: str) -> bool:
    """Tell whether a submitter's launchers would serve the user."""
    users = known.view.report.users
    return (not users or user in users) and parse_scopes(known.serves).permit(Authority.DISPATCH, (user,))


def _seen_by(who: Principal, known: KnownJobs) -> JobsView | None:
    is_of_own_token = who.scopes.name(Authority.DISPATCH) and known.view.jobs.startswith(f"{who.party}/")
    if who.may(Authority.ADMIN) or is_of_own_token:
        return known.view
    if not who.may(Authority.READ, who.subject) or not serves(known, who.subject):
        return None
    return msgspec.structs.replace(known.view, report=msgspec.structs.replace(known.view.report, users=()))


def _bounded(report: JobsReport) -> JobsReport:
    """Cut what a submitter says to what is kept of it.

    Raises:
        Rejected: a number of jobs, or a name, that there cannot be.
    """
    for name, count in {"queued": report.queued, "running": report.running, "held": report.held}.items():
        if not 0 <= count < _MOST_JOBS:
            raise Rejected(ProblemCode.BAD_REQUEST, f"{name} is {count}: tell how many jobs there are")
    check_users(report.users)
    since = report.queued_since
    return msgspec.structs.replace(
        report,
        place=bounded(report.place, _PLACE_CHARS),
        sentence=bounded(report.sentence, _SENTENCE_CHARS),
        queued_since=None if since is None else bounded(since, _TIME_CHARS),
    )

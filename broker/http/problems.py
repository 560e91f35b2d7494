"""From errors to answers: every failure of the API leaves here, as `application/problem+json`."""

import random
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import aiohttp
import msgspec
import structlog
from aiohttp import web

from broker.domain.errors import BrokerError, Unavailable
from broker.domain.paths import BadPath
from broker.domain.targets import BadTarget
from broker.wire.names import BadName
from broker.wire.problems import MEDIA_TYPE, PROBLEMS, ProblemCode, problem

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

REQUEST_ID = web.RequestKey("request_id", str)
_BEGUN = web.RequestKey("begun", web.StreamResponse)
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
_GONE = (ConnectionError, aiohttp.ClientPayloadError, web.RequestPayloadError)
_QUOTA_AFTER_S = {ProblemCode.QUOTA_EXCEEDED: 60}
"""Whoever is over a quota has to make room: asking at once again changes nothing."""
_CODE_OF_STATUS = {
    HTTPStatus.NOT_FOUND: ProblemCode.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: ProblemCode.METHOD_NOT_ALLOWED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ProblemCode.TOO_LARGE,
}
_SENTENCES = {
    ProblemCode.NOT_FOUND: "there is no such address: see the list of routes",
    ProblemCode.METHOD_NOT_ALLOWED: "this address does not take that method: see the Allow header",
    ProblemCode.TOO_LARGE: "the body is larger than this address takes",
}

log = structlog.get_logger(__name__)


def problem_answer(
    request: web.BaseRequest,
    code: ProblemCode,
    detail: str,
    *,
    refusals: list[dict[str, str]] | None = None,
    retry_after_s: int | None = None,
    progress: dict[str, int] | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    """Render one problem."""
    body = problem(
        code,
        detail,
        request_id=request[REQUEST_ID],
        refusals=refusals or [],
        retry_after_s=retry_after_s,
        **(progress or {}),
    )
    sent = {"Cache-Control": "no-store", **_marks(request[REQUEST_ID]), **(headers or {})}
    if retry_after_s is not None:
        sent["Retry-After"] = str(retry_after_s)
    if code is ProblemCode.UNAUTHENTICATED:
        sent["WWW-Authenticate"] = 'Bearer realm="vmbroker"'
    return web.Response(
        body=msgspec.json.encode(body), status=PROBLEMS[code].status, content_type=MEDIA_TYPE, headers=sent
    )


async def answer_problems(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    """Give the request its id, and answer whatever goes wrong in its handler; a bug shows its id and nothing else.

    It stands around the application's own handler. As a middleware it would be called from within, at more expense.
    """
    given = request.headers.get("X-Request-Id", "")
    request[REQUEST_ID] = request_id = given if _SANE_ID.fullmatch(given) else _new_id()
    # No other request sees it: aiohttp handles each in a task, and so in a context, of its own.
    structlog.contextvars.bind_contextvars(request_id=request_id)
    try:
        answer = await handler(request)
    except BrokerError as error:
        retry_after_s = error.retry_after_s if isinstance(error, Unavailable) else _QUOTA_AFTER_S.get(error.code)
        answer = _answer(
            request,
            error.code,
            error.detail,
            refusals=error.refusals,
            retry_after_s=retry_after_s,
            progress=error.progress,
        )
    except (BadName, BadPath, BadTarget) as error:
        answer = _answer(request, ProblemCode.BAD_REQUEST, str(error))
    except web.HTTPException as error:
        answer = _translated(request, error)
    except _GONE:
        log.info("client_gone", method=request.method, path=request.path)
        answer = _answer(request, ProblemCode.BAD_REQUEST, "the request ended before its body was complete")
    except Exception:
        log.exception("request_crashed", method=request.method, path=request.path)
        answer = _answer(
            request, ProblemCode.INTERNAL, f"the broker failed; tell its operator the request id {request_id}"
        )
    log.debug("request_answered", method=request.method, path=request.path, status=answer.status)
    return answer


def unread_answer(request: web.BaseRequest, detail: str) -> web.Response:
    """Refuse what never came as far as a handler."""
    if request.get(REQUEST_ID) is None:
        request[REQUEST_ID] = _new_id()
    return problem_answer(request, ProblemCode.BAD_REQUEST, detail)


def _new_id() -> str:
    # It opens nothing, so it need not be unguessable: it is made for every request.
    return f"{random.getrandbits(128):032x}"


def mark_answer(request: web.Request, answer: web.StreamResponse) -> None:
    """Put on every answer what every answer carries, before its headers go out."""
    request[_BEGUN] = answer
    answer.headers.update(_marks(request[REQUEST_ID]))


def _marks(request_id: str) -> dict[str, str]:
    return {"X-Request-Id": request_id, "X-Content-Type-Options": "nosniff"}


def _answer(
    request: web.BaseRequest,
    code: ProblemCode,
    detail: str,
    *,
    refusals: list[dict[str, str]] | None = None,
    retry_after_s: int | None = None,
    progress: dict[str, int] | None = None,
) -> web.StreamResponse:
    begun: web.StreamResponse | None = request.get(_BEGUN)
    if begun is not None:
        # Half an answer is out: the only honest sign left is a broken connection.
        if request.transport is not None:
            request.transport.abort()
        return begun
    return problem_answer(request, code, detail, refusals=refusals, retry_after_s=retry_after_s, progress=progress)


def _translated(request: web.BaseRequest, error: web.HTTPException) -> web.StreamResponse:
    code = _CODE_OF_STATUS.get(HTTPStatus(error.status))
    if code is None:
        code = ProblemCode.BAD_REQUEST if error.status < HTTPStatus.INTERNAL_SERVER_ERROR else ProblemCode.INTERNAL
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return problem_answer(request, code, _SENTENCES.get(code, error.reason), headers=headers)

"""The pages of the HTTP routes and of the problems."""

from collections.abc import Iterable, Iterator
from types import GenericAlias
from typing import Any

from broker.domain.limits import LIMITS
from broker.http.contract import Content, Form, Parameter, Place
from broker.http.route import Route
from broker.http.routes import ROUTES
from broker.wire.problems import PROBLEMS, ProblemCode
from docs.generator.layout import code, codes, page, table


def http_routes() -> str:
    """Return the page of all routes."""
    return page(
        "HTTP routes",
        "Every address of the API. Errors are [problems](problems.md); every answer carries `X-Request-Id`.\n"
        "`GET /openapi.json` of a broker has the same as an OpenAPI 3.1 document, with the schema of every body.",
        table(("method", "path", "proof", "scope", "act"), map(_proved, ROUTES)),
        "## What they take and answer",
        "Types are those of `broker/wire`, and schemas of the document. Headers begin with a capital, the others are\n"
        "parameters of the query; those in bold have to be there.",
        table(("method", "path", "body", "parameters", "answers", "problems of its own"), map(_spoken, ROUTES)),
        f"Every route but those without a proof may be answered {codes(each.value for each in _ANY)}, too; one with a\n"
        "token `issuer_unavailable`, one with a parameter or a body `bad_request`, one with a body `too_large`,\n"
        "one with a scope `forbidden` or `not_found`.",
    )


def problems() -> str:
    """Return the page of problem codes and of the limits that lead to some of them."""
    codes_ = ((f"`{each.value}`", str(kind.status), kind.title, _where(each)) for each, kind in PROBLEMS.items())
    limits = (
        (f"`{name}`", str(limit.default), limit.unit, limit.meaning, f"`{limit.problem.value}`")
        for name, limit in LIMITS.items()
    )
    return page(
        "Problems",
        "Every error is `application/problem+json` (RFC 9457); `type` is `urn:vmbroker:problem:CODE`, `detail` a "
        "sentence that says what to do, `request_id` what the operator looks for in the log. The list is closed, and "
        "so is each [route's](http-routes.md): a test fails where another code is answered than it declares.",
        table(("code", "status", "title", "where"), codes_),
        "## Limits",
        table(("limit", "default", "unit", "of what", "problem"), limits),
    )


_ANY = (ProblemCode.UNAUTHENTICATED, ProblemCode.INTERNAL, ProblemCode.STORE_UNAVAILABLE, ProblemCode.STORE_DISK_FULL)
_SHARED = {
    *_ANY,
    ProblemCode.ISSUER_UNAVAILABLE,
    ProblemCode.BAD_REQUEST,
    ProblemCode.FORBIDDEN,
    ProblemCode.NOT_FOUND,
    ProblemCode.TOO_LARGE,
}


def _proved(route: Route) -> tuple[str, ...]:
    return route.method, f"`{route.address}`", route.proof.value, code(route.scope), route.summary


def _spoken(route: Route) -> tuple[str, ...]:
    declared = route.operation
    return (
        route.method,
        f"`{route.address}`",
        _bodies(declared.takes),
        ", ".join(map(_parameter, declared.parameters)),
        "; ".join(f"{status} {_bodies(contents)}".strip() for status, contents in _answers(route)),
        codes(each.value for each in declared.problems if each not in _SHARED),
    )


def _answers(route: Route) -> Iterator[tuple[int, tuple[Content, ...]]]:
    for status, contents in route.operation.answers.items():
        yield status, () if route.method == "HEAD" else contents


def _parameter(parameter: Parameter) -> str:
    name = f"`{parameter.name}`" if parameter.place is Place.HEADER else f"`{parameter.name}=`"
    return f"**{name}**" if parameter.is_required else name


def _bodies(contents: Iterable[Content]) -> str:
    return " or ".join(map(_body, contents))


def _body(content: Content) -> str:
    match content.form:
        case Form.JSON:
            return f"`{_kinds(content)}`"
        case Form.LINES:
            return f"`{_kinds(content)}` a line"
        case Form.EVENTS:
            return f"`{_kinds(content)}` as SSE"
        case Form.BYTES | Form.PAGE:
            return f"`{content.media_type}`"


def _kinds(content: Content) -> str:
    return "` or `".join(map(_name, content.kinds))


def _name(kind: Any) -> str:
    """Return a type's name as it is written in the code."""
    match kind:
        case GenericAlias(__origin__=origin) if origin is list:
            return f"list[{_name(kind.__args__[0])}]"
        case GenericAlias():
            return "object"
    return str(kind.__name__)


def _where(problem: ProblemCode) -> str:
    """Tell which routes answer it: of the few that are not shared by most."""
    if problem in _SHARED:
        return "most routes"
    if problem is ProblemCode.METHOD_NOT_ALLOWED:
        return "any address"
    return ", ".join(_addresses(problem))


def _addresses(problem: ProblemCode) -> Iterator[str]:
    for route in ROUTES:
        if problem in route.operation.problems:
            yield f"`{route.method} {route.address}`"

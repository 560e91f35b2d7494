"""The pages of the HTTP routes and of the problems."""

from broker.domain.limits import LIMITS
from broker.http.routes import ROUTES
from broker.wire.problems import PROBLEMS
from docs.generator.layout import code, page, table


def http_routes() -> str:
    """Return the page of all routes."""
    rows = (
        (route.method, f"`{route.path.replace(':.+', '')}`", route.proof.value, code(route.scope), route.summary)
        for route in ROUTES
    )
    return page(
        "HTTP routes",
        "Every address of the API. Errors are [problems](problems.md); every answer carries `X-Request-Id`.",
        table(("method", "path", "proof", "scope", "act"), rows),
    )


def problems() -> str:
    """Return the page of problem codes and of the limits that lead to some of them."""
    codes = ((f"`{code.value}`", str(kind.status), kind.title) for code, kind in PROBLEMS.items())
    limits = (
        (f"`{name}`", str(limit.default), limit.unit, limit.meaning, f"`{limit.problem.value}`")
        for name, limit in LIMITS.items()
    )
    return page(
        "Problems",
        "Every error is `application/problem+json` (RFC 9457); `type` is `urn:vmbroker:problem:CODE`, `detail` a "
        "sentence that says what to do, `request_id` what the operator looks for in the log.",
        table(("code", "status", "title"), codes),
        "## Limits",
        table(("limit", "default", "unit", "of what", "problem"), limits),
    )

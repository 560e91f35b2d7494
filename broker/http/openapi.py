"""`GET /openapi.json`: the API's document, made of the route table and of what the handlers declare.

Source: OpenAPI Specification 3.1.1; its schemas are JSON Schema 2020-12, which msgspec derives from the wire's types.
"""

import inspect
from collections.abc import Iterable
from http import HTTPStatus
from itertools import groupby
from typing import Any, assert_never

import msgspec
from aiohttp import web

from broker.http.call import Call
from broker.http.contract import JSON, NOTHING, Content, Form, Parameter, operation
from broker.http.doors import Proof
from broker.http.parameters import REQUEST_ID, RETRY_AFTER
from broker.http.route import Route
from broker.wire.problems import MEDIA_TYPE, PROBLEMS, Problem, ProblemCode
from broker.wire.states import LATER_WORD, Growing

DOCUMENT = web.AppKey("document", bytes)
_REF = "#/components/schemas/{name}"

_SECURITY_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A user's, a launcher's or an operator's token; each operation says the scope that it needs.",
    },
    "lease": {
        "type": "http",
        "scheme": "bearer",
        "description": "The lease token that a claim was answered with. The claim itself has its ticket in the body.",
    },
    "login": {
        "type": "http",
        "scheme": "bearer",
        "description": "What a one-time code was exchanged for; it renews a person's tokens, and makes others.",
    },
    "signed_address": {
        "type": "apiKey",
        "in": "query",
        "name": "signature",
        "description": "An address as the broker signed it for one method, used as it is, for a quarter of an hour.",
    },
}

_ABOUT = (
    "One item, one vm, one result. Every error is `application/problem+json` with a code of a closed list. An address "
    "that is not listed is answered 404 `not_found`, another method of one 405 `method_not_allowed`. Unknown fields "
    "are refused where a person's tool sends them, and ignored where a launcher or a guest does. Times are RFC 3339 "
    "UTC; durations are integers, in the unit that their name ends with."
)


@operation(answers=dict[str, Any])
async def get_document(call: Call) -> web.Response:
    """Send the document; no token, since it says nothing of anybody."""
    document = call.request.app[DOCUMENT]
    return web.Response(body=document, content_type=JSON, headers={"Cache-Control": "no-cache"})


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document of a table of routes."""
    routes = sorted(routes, key=lambda route: route.address)
    schemas = _Schemas(_kinds(routes))
    return {
        "openapi": "3.1.1",
        "info": {"title": "vmbroker", "version": "1", "description": _ABOUT},
        "paths": {
            address: {route.method.lower(): _operation(route, schemas) for route in methods}
            for address, methods in groupby(routes, key=lambda route: route.address)
        },
        "components": {
            "schemas": schemas.components,
            "responses": _refused(routes),
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


class _Schemas:
    """The schemas of all types that the document speaks of."""

    def __init__(self, kinds: list[Any]) -> None:
        schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
        for kind in Growing.__subclasses__():
            if kind.__name__ in components:
                components[kind.__name__] = _open(components[kind.__name__])
        self._by_kind = list(zip(kinds, map(_undented, schemas), strict=True))
        self.components = _undented(components)

    def of(self, kind: Any) -> dict[str, Any]:
        return dict(next(schema for known, schema in self._by_kind if known == kind))


def _kinds(routes: list[Route]) -> list[Any]:
    found = [Problem, REQUEST_ID.kind, RETRY_AFTER.kind]
    for route in routes:
        declared = route.operation
        contents = [*declared.takes, *(each for contents in declared.answers.values() for each in contents)]
        found += [kind for each in contents for kind in each.kinds]
        found += [each.kind for each in (*route.parameters, *declared.sends)]
    return found


def _open(schema: dict[str, Any]) -> dict[str, Any]:
    """Let words in that later versions add."""
    known = {"enum": schema.pop("enum")}
    return {**schema, "anyOf": [known, {"type": "string", "pattern": f"^{LATER_WORD.pattern}$"}]}


def _undented(schema: Any) -> Any:
    """Take the source's indentation out of what docstrings became."""
    match schema:
        case {"description": str(text), **rest}:
            return {"description": inspect.cleandoc(text), **_undented(rest)}
        case dict():
            return {name: _undented(value) for name, value in schema.items()}
        case list():
            return [_undented(value) for value in schema]
    return schema


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    declared = route.operation
    said: dict[str, Any] = {
        "operationId": _id(route),
        "tags": [route.handler.__module__.rpartition(".")[2]],
        "summary": route.summary,
        "description": inspect.getdoc(route.handler) or route.summary,
        "parameters": [_parameter(each, schemas) for each in route.parameters],
        "responses": {**_successes(route, schemas), **_refusals(route)},
        "security": _security(route),
    }
    if declared.takes != NOTHING:
        said["requestBody"] = {
            "required": not declared.body_is_optional,
            "content": _content(declared.takes, schemas),
        }
    return said


def _id(route: Route) -> str:
    module = route.handler.__module__.rpartition(".")[2]
    head = "_head" if route.method == "HEAD" and "head" not in route.handler.__name__ else ""
    return f"{module}_{route.handler.__name__}{head}"


def _security(route: Route) -> list[dict[str, list[str]]]:
    token = {"token": [route.scope] if route.scope else []}
    match route.proof:
        case Proof.NOTHING | Proof.TICKET | Proof.CODE:
            return []
        case Proof.TOKEN:
            return [token]
        case Proof.TOKEN_OR_SIGNATURE:
            return [token, {"signed_address": []}]
        case Proof.LEASE:
            return [{"lease": []}]
        case Proof.LOGIN:
            return [{"login": []}]
        case Proof.TOKEN_OR_LOGIN:
            return [token, {"login": []}]
    assert_never(route.proof)


def _parameter(parameter: Parameter, schemas: _Schemas) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place.value,
        "required": parameter.is_required,
        "description": parameter.text,
        "schema": schemas.of(parameter.kind),
    }


def _content(contents: Iterable[Content], schemas: _Schemas) -> dict[str, Any]:
    return {each.media_type: {"schema": _body(each, schemas)} for each in contents}


def _body(content: Content, schemas: _Schemas) -> dict[str, Any]:
    match content.form:
        case Form.JSON:
            return _one_of(content.kinds, schemas)
        case Form.BYTES | Form.PAGE:
            return {"type": "string", "format": "binary"}
        case Form.LINES | Form.EVENTS:
            # OpenAPI 3.1 has no word for a sequence of JSON texts.
            return {"type": "string", "description": f"{content.form}", "x-each": _one_of(content.kinds, schemas)}
    assert_never(content.form)


def _one_of(kinds: tuple[Any, ...], schemas: _Schemas) -> dict[str, Any]:
    return schemas.of(kinds[0]) if len(kinds) == 1 else {"anyOf": [schemas.of(kind) for kind in kinds]}


def _successes(route: Route, schemas: _Schemas) -> dict[str, Any]:
    headers = {each.name: _header(each, schemas) for each in (REQUEST_ID, *route.operation.sends)}
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "headers": headers,
            **({} if not contents or route.method == "HEAD" else {"content": _content(contents, schemas)}),
        }
        for status, contents in route.operation.answers.items()
    }


def _refused(routes: list[Route]) -> dict[str, Any]:
    """Return the answers that refuse, each set of codes once."""
    return {_name(codes): _refusal(codes) for route in routes for codes in _by_status(route).values()}


def _refusals(route: Route) -> dict[str, Any]:
    by_status = sorted(_by_status(route).items())
    if route.method == "HEAD":
        return {str(status): {"description": _told(codes)} for status, codes in by_status}
    return {str(status): {"$ref": f"#/components/responses/{_name(codes)}"} for status, codes in by_status}


def _by_status(route: Route) -> dict[int, tuple[ProblemCode, ...]]:
    found: dict[int, tuple[ProblemCode, ...]] = {}
    for code in route.problems:
        status = PROBLEMS[code].status
        found[status] = (*found.get(status, ()), code)
    return found


def _name(codes: tuple[ProblemCode, ...]) -> str:
    return ".".join(codes)


def _told(codes: tuple[ProblemCode, ...]) -> str:
    return "; ".join(f"`{code}`: {PROBLEMS[code].title}" for code in codes)


def _refusal(codes: tuple[ProblemCode, ...]) -> dict[str, Any]:
    schema = {
        "allOf": [{"$ref": _REF.format(name="Problem")}],
        "properties": {
            "code": {"enum": [code.value for code in codes]},
            "status": {"const": PROBLEMS[codes[0]].status},
        },
    }
    return {"description": _told(codes), "content": {MEDIA_TYPE: {"schema": schema}}}


def _header(parameter: Parameter, schemas: _Schemas) -> dict[str, Any]:
    return {"description": parameter.text, "required": True, "schema": schemas.of(parameter.kind)}

"""Is an answer one that the API's document promises? Asked of every answer that a test of the API gets."""

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import jsonschema_rs
import msgspec

from broker.http import openapi
from broker.http.route import Route
from broker.http.routes import DAV, ROUTES
from broker.wire.problems import MEDIA_TYPE


def check_answer(method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Fail when no operation of that address promises this answer."""
    route = route_of(method, path)
    what = f"{method} {path}: {status} {body[:500]!r}"
    if route is None:
        assert json.loads(body)["code"] == ("method_not_allowed" if _of_path(path) else "not_found"), what
        return
    if route in DAV:
        return  # of methods that the document has no names for
    promised = _document()["paths"][route.address][method.lower()]["responses"]
    assert str(status) in promised, f"{what}; promised: {', '.join(promised)}"
    contents = _resolved(promised[str(status)]).get("content", {})
    if not contents:
        assert body == b"", what
        return
    media_type = headers["Content-Type"].partition(";")[0]
    assert media_type in contents, f"{what}: {media_type}"
    if media_type in {"application/json", MEDIA_TYPE}:
        errors = [error.message for error in _validator(_key(contents, media_type)).iter_errors(json.loads(body))]
        assert errors == [], f"{what}: {errors}"


def route_of(method: str, path: str) -> Route | None:
    """Return the route that takes such a request."""
    return next((route for route in _of_path(path) if route.method == method), None)


def _of_path(path: str) -> list[Route]:
    return [route for route in (*ROUTES, *DAV) if _pattern(route).fullmatch(path.partition("?")[0])]


@functools.cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(msgspec.json.encode(openapi.document(ROUTES)))
    return document


@functools.cache
def _pattern(route: Route) -> re.Pattern[str]:
    literal = re.split(r"\{\w+(?::[^}]*)?\}", route.path)
    parts = (r".+" if ":.+" in part else r"[^/]+" for part in re.findall(r"\{[^}]*\}", route.path))
    return re.compile("".join(re.escape(text) + next(parts, "") for text in literal))


def _resolved(response: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = response
    if "$ref" in response:
        found = _document()["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return found


def _key(contents: dict[str, Any], media_type: str) -> str:
    return json.dumps(contents[media_type]["schema"], sort_keys=True)


@functools.cache
def _validator(schema: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(_closed({**json.loads(schema), "components": _document()["components"]}))


def _closed(schema: Any) -> Any:
    """Let no field in that is not declared: readers have to bear them, our own broker sends none."""
    match schema:
        case {"type": "object", "properties": dict(), **rest} if "additionalProperties" not in rest:
            schema = {**schema, "additionalProperties": False}
    if isinstance(schema, dict):
        return {name: _closed(value) for name, value in schema.items()}
    return [_closed(each) for each in schema] if isinstance(schema, list) else schema

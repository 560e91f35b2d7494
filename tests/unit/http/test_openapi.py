"""The API's document, and that what handlers declare is what they do."""

import ast
import inspect
import json
import textwrap
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import openapi_spec_validator
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from broker.domain.scopes import Authority
from broker.http import openapi
from broker.http.call import Call
from broker.http.contract import Undeclared, operation, operation_of
from broker.http.doors import Proof
from broker.http.parameters import USER
from broker.http.route import Route
from broker.http.routes import ROUTES
from broker.wire.kinds import FromPerson, Message
from broker.wire.machines import Disk, MachineDefinition
from broker.wire.problems import PROBLEMS, ProblemCode
from broker.wire.states import HealthState, ItemState
from tests.support.contract import check_answer

DOCUMENT: dict[str, Any] = json.loads(msgspec.json.encode(openapi.document(ROUTES)))
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = [(path, method, said) for path, methods in DOCUMENT["paths"].items() for method, said in methods.items()]


def test_the_document_is_openapi() -> None:
    openapi_spec_validator.validate(DOCUMENT, cls=openapi_spec_validator.OpenAPIV31SpecValidator)


def test_the_document_has_every_route_and_no_other() -> None:
    assert {(route.address, route.method.lower()) for route in ROUTES} == {
        (path, method) for path, method, _ in OPERATIONS
    }
    assert max(Counter(said["operationId"] for _, _, said in OPERATIONS).values()) == 1


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.address}")
def test_a_handler_reads_of_body_and_query_what_it_declares_and_all_of_it(route: Route) -> None:
    declared = route.operation
    bodies, queries, is_raw = _read_by(route.handler)

    assert is_raw or bodies == ([] if declared.body is None else [declared.body])
    assert queries == ([declared.query] if declared.query else [])


def test_a_route_whose_handler_declares_nothing_is_told_what_to_write() -> None:
    async def pause(_: Call) -> web.Response:
        return web.Response()

    with pytest.raises(Undeclared, match=r"pause answers a route and declares nothing: put @operation\(answers=…\)"):
        openapi.document([Route("POST", "/v1/x", pause, Proof.TOKEN, "stops it")])


def test_a_body_has_to_be_there_unless_it_is_declared_optional() -> None:
    @operation(takes=Disk, answers=Disk, body_is_optional=True)
    async def hold(_: Call) -> web.Response:
        return web.Response()

    document = openapi.document([Route("POST", "/v1/x", hold, Proof.TOKEN, "sets it aside")])

    assert document["paths"]["/v1/x"]["post"]["requestBody"]["required"] is False
    assert DOCUMENT["paths"]["/v1/dispatch"]["post"]["requestBody"]["required"] is True


async def test_a_handler_that_reads_what_it_does_not_declare_fails() -> None:
    @operation(takes=Disk, answers=Disk, parameters=(USER,))
    async def handler(_: Call) -> web.Response:
        return web.Response()

    call = Call(make_mocked_request("GET", "/?state=done"), None, None, operation_of(handler))  # type: ignore[arg-type] # needs none

    with pytest.raises(Undeclared, match=r"declared: .*Disk"):
        await call.body(MachineDefinition)
    with pytest.raises(Undeclared, match=r"declared: .*user"):
        call.query("state")


def test_fields_that_are_not_known_are_refused_from_people_and_ignored_from_programs() -> None:
    for route in ROUTES:
        kind = route.operation.body
        if kind is None:
            continue
        kind = getattr(kind, "__args__", (kind,))[0]
        of_people = {Proof.TOKEN, Proof.TOKEN_OR_LOGIN, Proof.CODE}
        is_a_persons = route.proof in of_people and route.authority is not Authority.DISPATCH
        assert issubclass(kind, FromPerson if is_a_persons else Message), route
        assert SCHEMAS[kind.__name__].get("additionalProperties", True) is not is_a_persons, route


def test_problem_codes_are_a_closed_list_and_each_is_answered_by_some_route() -> None:
    answered = {code for route in ROUTES for code in route.problems}

    assert SCHEMAS["ProblemCode"]["enum"] == sorted(code.value for code in ProblemCode)
    assert set(PROBLEMS) == set(ProblemCode) == answered
    for path, method, said in OPERATIONS:
        for status, refusal in said["responses"].items():
            if "$ref" in refusal:
                kind = DOCUMENT["components"]["responses"][refusal["$ref"].rpartition("/")[2]]
                codes = kind["content"]["application/problem+json"]["schema"]["properties"]["code"]["enum"]
                assert {PROBLEMS[ProblemCode(code)].status for code in codes} == {int(status)}, (path, method)


def test_a_vocabulary_that_grows_lets_later_words_in_and_a_closed_one_does_not() -> None:
    assert SCHEMAS["HealthState"]["anyOf"][0]["enum"] == sorted(HealthState)
    assert SCHEMAS["HealthState"]["anyOf"][1]["type"] == "string"
    assert SCHEMAS["ItemState"]["enum"] == sorted(ItemState)


def test_each_proof_is_a_security_scheme_and_names_its_scope() -> None:
    paths = DOCUMENT["paths"]

    assert paths["/healthz"]["get"]["security"] == []
    assert paths["/v1/streams/{user}/{job}"]["put"]["security"] == [{"token": ["queue.modify:/USER/JOB"]}]
    assert paths["/v1/files/{user}/{path}"]["get"]["security"] == [
        {"token": ["file.read:/USER/PATH"]},
        {"signed_address": []},
    ]
    assert paths["/v1/lease/extend"]["post"]["security"] == [{"lease": []}]


def test_the_document_has_no_indentation_of_the_source() -> None:
    assert "\\n    " not in json.dumps(DOCUMENT)


@pytest.mark.parametrize(
    ("status", "media_type", "body"),
    [
        (200, "application/json", b'{"status":"well"}'),
        (200, "application/json", b'{"status":"ok","more":1}'),
        (200, "text/plain", b'{"status":"ok"}'),
        (201, "application/json", b'{"status":"ok"}'),
        (500, "application/problem+json", b'{"type":"t","title":"t","status":500,"detail":"d","code":"forbidden"}'),
    ],
)
def test_an_answer_that_is_not_promised_is_found(status: int, media_type: str, body: bytes) -> None:
    with pytest.raises(AssertionError):
        check_answer("GET", "/healthz", status, {"Content-Type": media_type}, body)


def _read_by(handler: Callable[..., Any]) -> tuple[list[Any], list[tuple[str, ...]], bool]:
    """Return what a handler's source asks `call.body` and `call.query` for, and whether it reads the body by itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(handler)))
    bodies, queries, is_raw = [], [], False
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="call"), attr="body" | "optional_body"), args=[kind, *_]
            ):
                bodies.append(eval(ast.unparse(kind), handler.__globals__))
            case ast.Call(func=ast.Attribute(value=ast.Name(id="call"), attr="query"), args=names):
                queries.append(tuple(ast.literal_eval(name) for name in names))
            case ast.Attribute(value=ast.Name(id="call"), attr="whole_body"):
                is_raw = True
    return bodies, queries, is_raw

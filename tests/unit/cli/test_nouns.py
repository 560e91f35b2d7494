"""Every command of `broker` that acts on the broker has its routes, and people's routes have their command."""

import ast
from pathlib import Path

import broker.client
from broker.cli import commands
from broker.domain.scopes import Authority
from broker.http.doors import Proof
from broker.http.route import Route
from broker.http.routes import ROUTES
from tests.support.contract import route_of

LOCAL = {"serve", "callbacks", "check-config", "key list", "key rotate", "key drop"}
"""Commands that ask no broker."""

_MACHINE, _STREAM, _FILE = "/v1/machines/{user}/{name}", "/v1/streams/{user}/{job}", "/v1/files/{user}/{path}"
_FOLDER = "/v1/files/{user}/{folder}/"
_ITEM, _UPLOAD = f"{_STREAM}/items/{{number}}", "/v1/uploads/{upload}"

ROUTES_OF: dict[str, tuple[str, ...]] = {
    "machine add": (
        f"PUT {_MACHINE}",
        "HEAD /v1/images/{digest}",
        "GET /v1/uploads",
        "POST /v1/uploads",
        f"HEAD {_UPLOAD}",
        f"PATCH {_UPLOAD}",
    ),
    "machine list": ("GET /v1/machines",),
    "machine show": (f"GET {_MACHINE}", f"GET {_MACHINE}/readers"),
    "machine rm": (f"DELETE {_MACHINE}",),
    "machine share": (f"PUT {_MACHINE}/readers/{{reader}}",),
    "machine unshare": (f"DELETE {_MACHINE}/readers/{{reader}}",),
    "machine uploads": ("GET /v1/uploads", f"DELETE {_UPLOAD}"),
    "stream add": (f"PUT {_STREAM}",),
    "stream list": ("GET /v1/streams",),
    "stream show": (f"GET {_STREAM}",),
    "stream revisions": (f"GET {_STREAM}/revisions",),
    "try": (f"POST {_STREAM}/items", f"GET {_STREAM}/events", f"GET {_ITEM}"),
    "push": (f"POST {_STREAM}/items", f"POST {_FILE}", f"PUT {_FILE}", f"HEAD {_FILE}"),
    "watch": (f"GET {_STREAM}", f"GET {_STREAM}/events"),
    "status": (f"GET {_STREAM}", f"GET {_STREAM}/items", f"GET {_ITEM}"),
    "results": (f"GET {_STREAM}/results", f"GET {_ITEM}/outputs/{{path}}", f"GET {_FILE}"),
    "why": (f"GET {_ITEM}/why", f"GET {_STREAM}/why"),
    "console": (f"GET {_ITEM}/console",),
    "logs": (f"GET {_ITEM}/log", f"GET {_ITEM}/console", f"GET {_ITEM}/domain-xml"),
    "cancel": (f"POST {_ITEM}/cancel", f"POST {_STREAM}/cancel"),
    "hold": (f"POST {_ITEM}/hold", f"POST {_STREAM}/hold"),
    "release": (f"POST {_ITEM}/release", f"POST {_STREAM}/release"),
    "pause": (f"POST {_STREAM}/pause",),
    "resume": (f"POST {_STREAM}/resume",),
    "purge": (f"GET {_STREAM}", f"DELETE {_STREAM}"),
    "events": (f"GET {_STREAM}/events", "GET /v1/events"),
    "login": ("GET /v1/login", "POST /v1/login", "POST /v1/login/token"),
    "logout": ("DELETE /v1/login",),
    "token create": ("POST /v1/tokens",),
    "token list": ("GET /v1/tokens",),
    "token revoke": ("DELETE /v1/tokens/{token}",),
    "site add": ("POST /v1/sites/{site}/tokens",),
    "site list": ("GET /v1/sites",),
    "site rm": ("DELETE /v1/sites/{site}",),
    "user add": ("POST /v1/users/{user}/codes",),
    "user logout": ("DELETE /v1/users/{user}/tokens",),
    "callback test": (f"POST {_STREAM}/callback/test",),
    "secret add": ("PUT /v1/secrets/{user}/{name}",),
    "secret list": ("GET /v1/secrets",),
    "secret rm": ("DELETE /v1/secrets/{user}/{name}",),
    "callback list": ("GET /v1/callbacks",),
    "callback replay": ("POST /v1/callbacks/{callback}/replay",),
    "user show": ("GET /v1/users/{user}",),
    "user set": ("PUT /v1/users/{user}",),
    "launchers": ("GET /v1/launchers", "GET /v1/launcher-jobs"),
    "file put": (
        f"POST {_FILE}",
        f"PUT {_FILE}",
        f"HEAD {_FILE}",
        "POST /v1/uploads",
        f"HEAD {_UPLOAD}",
        f"PATCH {_UPLOAD}",
    ),
    "file get": (f"HEAD {_FILE}", f"GET {_FILE}", f"GET {_FOLDER}", "GET /v1/files/{user}/"),
    "file ls": ("GET /v1/files/{user}/", f"GET {_FOLDER}"),
    "file rm": (f"DELETE {_FILE}", "GET /v1/files/{user}/", f"GET {_FOLDER}"),
    "file share": (
        "POST /v1/shares/{user}/{path}",
        "POST /v1/shares/{user}/{folder}/",
        "POST /v1/shares/{user}/",
    ),
    "whoami": ("GET /v1/whoami",),
}

OF_PEOPLE = {Proof.TOKEN, Proof.TOKEN_OR_SIGNATURE, Proof.TOKEN_OR_LOGIN, Proof.LOGIN, Proof.CODE}

WITHOUT_A_COMMAND = {
    "PUT /v1/images/{digest}": "our client uploads in parts",
    "GET /v1/images/{digest}": "launchers fetch images, by signed addresses",
    "GET /v1/images": "images go with the machine that names them",
    "DELETE /v1/images/{digest}": "images go with the machine that names them",
    "OPTIONS /v1/uploads": "for tus clients of others",
    f"POST {_UPLOAD}": "for tus clients behind proxies that know neither PATCH nor DELETE",
    "GET /v1/secrets/{user}/{name}": "the list tells the same",
}

_METHODS = {route.method for route in ROUTES}
_STANDS_FOR = {
    "ref": "x/x",
    "quote(name, safe='/')": "x/x",
    "quote(folder, safe='/')": "x/x/",
    "act": "complete",
    "act.value": "cancel",
}
"""What the client's own code writes into an address where it is not one part of it."""


def test_every_command_names_its_routes() -> None:
    assert set(ROUTES_OF) == _leaves() - LOCAL, "say in this table which routes a new command calls"
    known = {_name(route) for route in ROUTES}
    for command, routes in ROUTES_OF.items():
        assert set(routes) <= known, command


def test_every_route_of_people_has_a_command_or_a_reason_for_none() -> None:
    of_people = {
        _name(route) for route in ROUTES if route.proof in OF_PEOPLE and route.authority is not Authority.DISPATCH
    }
    with_command = {route for routes in ROUTES_OF.values() for route in routes}

    open_to_all = {_name(route) for route in ROUTES if route.proof is Proof.NOTHING}

    assert of_people == (with_command - open_to_all) | set(WITHOUT_A_COMMAND)
    assert not with_command & set(WITHOUT_A_COMMAND)


def test_every_address_that_our_client_calls_is_a_route() -> None:
    called = [call for file in Path(broker.client.__path__[0]).glob("*.py") for call in _calls(file)]

    assert len(called) > 20
    for method, address in called:
        assert route_of(method, address) is not None, f"{method} {address}"


def _leaves() -> set[str]:
    """Return every command with the name of its group before it."""
    found = set()
    for name in commands.COMMANDS:
        below = getattr(commands.load(name), "commands", {})
        found |= {f"{name} {command}" for command in below} or {name}
    return found


def _name(route: Route) -> str:
    return f"{route.method} {route.address}"


def _calls(file: Path) -> list[tuple[str, str]]:
    """Return the methods and addresses, with an x for each part, that a module of the client writes out."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and len(node.args) > 1:
            method, address = map(_written, node.args[:2])
            if method in _METHODS and address.startswith("/v1/"):
                found.append((method, address))
    return found


def _written(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(map(_written, values))
        case ast.FormattedValue(value=value):
            return _STANDS_FOR.get(ast.unparse(value), "x")
    return ""

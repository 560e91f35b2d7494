"""A broker that answers every route with a stranger's text in every field that can hold one."""

import asyncio
import enum
import threading
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
from aiohttp import web

from broker.http.contract import Form
from broker.wire.problems import MEDIA_TYPE, ProblemCode, problem
from broker.wire.states import ItemState
from tests.support.contract import route_of

MARK = "c4nary"
HOSTILE = f"\x1b[2J\x1b]0;{MARK}\x07\x9b31m\x7f\x08\u202e\u2066\u2028\u200b\r[red]{MARK}[/red]:fire:\n{MARK}"
"""Moves the cursor, sets a title, turns the line round, begins another one, and would be red to Rich."""
_TIME = "2026-01-02T03:04:05Z"
_TIMES = ("_at", "time", "not_before", "at", "since", "until")
_NAMES = {
    "item": "alice/render/1",
    "stream": "alice/render",
    "machine": "alice/m",
    "subject": "alice/render/1",
    "user": "alice",
}
"""What the broker makes of names that it checked; nothing else may stand there."""
_KEYS = {"counts": tuple(ItemState)}
"""Of a mapping whose keys are the broker's."""


def planted(kind: Any, name: str = "") -> Any:
    """Return a value of a type, with what is hostile wherever there is text."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return planted(next(each for each in arguments if each not in {type(None), msgspec.UnsetType}), name)
    if origin is typing.Annotated:
        return planted(arguments[0], name)
    if origin is Literal:
        return arguments[0]
    if origin is tuple:
        # Bad lines that nobody asked to skip.
        return () if name == "refused" else (planted(arguments[0], name),)
    if origin is list:
        return [planted(arguments[0], name)]
    if origin is dict and name in _KEYS:
        return {key: planted(arguments[1]) for key in _KEYS[name]}
    if origin is dict:
        return {planted(arguments[0]): planted(arguments[1], "time" if name == "phases" else "")}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind, include_extras=True)
        # The page after this one would be the same again.
        names = [field.name for field in msgspec.structs.fields(kind) if not field.name.endswith("cursor")]
        fields = {name: planted(hints[name], name) for name in names}
        return kind(**fields)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    return _plain(kind, name)


def _plain(kind: Any, name: str) -> Any:
    match kind.__name__ if isinstance(kind, type) else getattr(kind, "__name__", ""):
        case "int":
            return 7
        case "float":
            return 0.5
        case "bool":
            return True
        case "bytes":
            return HOSTILE.encode()
        case _ if name.endswith(_TIMES):
            return _TIME
        case _:
            return _NAMES.get(name, HOSTILE)


@contextmanager
def planted_broker(*, is_refusing: bool = False) -> Iterator[str]:
    """Serve such a broker from a thread for the block and give its address; or one that refuses everything so."""
    addresses: list[str] = []
    is_ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def answer(request: web.Request) -> web.Response:
        return _refusal(request) if is_refusing and request.path != "/v1/whoami" else _answer(request)

    async def serve() -> None:
        runner = web.ServerRunner(web.Server(answer))  # type: ignore[arg-type] # its stub asks for aiohttp's own request
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        addresses.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        is_ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert is_ready.wait(10)
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def _answer(request: web.Request) -> web.Response:
    route = route_of(request.method, request.path)
    assert route is not None, (request.method, request.path)
    status, contents = next(iter(route.operation.answers.items()))
    wants_lines = "ndjson" in request.headers.get("Accept", "")
    content = next((each for each in contents if (each.form is Form.LINES) is wants_lines), None)
    content = content or next(iter(contents), None)
    if content is None:
        return web.Response(status=status)
    match content.form:
        case Form.BYTES:
            bodies = [HOSTILE.encode()]
        case Form.JSON:
            bodies = [msgspec.json.encode(planted(content.kinds[0]))]
        case Form.LINES:
            bodies = [msgspec.json.encode(planted(kind)) + b"\n" for kind in content.kinds]
        case _:
            bodies = [b"id: 1-1\ndata: " + msgspec.json.encode(planted(kind)) + b"\n\n" for kind in content.kinds]
    return web.Response(body=b"".join(bodies), status=status, headers={"Content-Type": content.media_type})


def _refusal(request: web.Request) -> web.Response:
    refusals = [{"path": HOSTILE, "line": HOSTILE, "reason": HOSTILE, "remedy": HOSTILE}]
    body = problem(ProblemCode.BAD_SPEC, HOSTILE, request_id=HOSTILE, refusals=refusals)
    return web.Response(body=msgspec.json.encode(body), status=body.status, content_type=MEDIA_TYPE)

"""Servers that do nothing, made as the broker is, to hold it against: `python -m bench.broker.floor KIND FOLDER`.

`empty`: dispatch, claim and complete answer at once, always the same. `parked`: dispatch is a long poll, and a push is
handed from memory to whoever waits longest. The answers are the broker's own, recorded into FOLDER, so that they are as
large. A file `ready` with the port is written when it listens; SIGTERM ends it at once.
"""

import argparse
import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web

from bench.broker.calls import STREAM
from broker.http.launchers import is_connected
from broker.wire.dispatches import DispatchRequest

RECORDED = ("dispatch", "dispatch_one", "claim", "complete", "push")
"""The answers: to a dispatch as guests in bulk send it, to one of a launcher that waits, and to the other calls."""
READY = "ready"
_BACKLOG = 1_024
_JSON = "application/json"

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Parked:
    """A waiting room in memory: the whole of a long poll but the store."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self._answers = answers
        self._waiting: deque[tuple[asyncio.Future[None], web.Request]] = deque()

    async def dispatch(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=DispatchRequest)
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((given, request))
        try:
            async with asyncio.timeout(wanted.wait_ms / 1000):
                await given
        except TimeoutError:
            # What was given in the moment of the time's end is not lost.
            if given.cancelled():
                return web.Response(status=204)
        return _json(self._answers["dispatch_one"])

    async def push(self, request: web.Request) -> web.Response:
        await request.read()
        while self._waiting:
            given, waiter = self._waiting.popleft()
            if not given.done() and is_connected(waiter):
                given.set_result(None)
                break
        return _json(self._answers["push"])


def routes_of(kind: str, answers: dict[str, bytes]) -> list[web.RouteDef]:
    """Return the routes of an empty server, or of one that parks."""

    def fixed(name: str) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            await request.read()
            return _json(answers[name])

        return handler

    routes = [
        web.post("/v1/claim", fixed("claim")),
        web.post("/v1/lease/complete", fixed("complete")),
    ]
    if kind == "empty":
        return [*routes, web.post("/v1/dispatch", fixed("dispatch"))]
    room = Parked(answers)
    return [*routes, web.post("/v1/dispatch", room.dispatch), web.post(f"{STREAM}/items", room.push)]


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type=_JSON, headers={"Cache-Control": "no-store"})


async def _serve(kind: str, folder: Path) -> None:
    answers = {name: (folder / name).read_bytes() for name in RECORDED}
    app = web.Application()
    app.add_routes(routes_of(kind, answers))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=_BACKLOG).start()
    draft = folder / f"{READY}.new"
    draft.write_text(str(runner.addresses[0][1]))
    draft.replace(folder / READY)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.broker.floor")
    parser.add_argument("kind", choices=("empty", "parked"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    asyncio.run(_serve(given.kind, given.folder))


if __name__ == "__main__":
    main()

"""The way to the broker, which loses and doubles: a relay that knows requests, so that it can cut at the worst moment.

Of what a client sends it may forward all and cut before the answer, forward the same bytes twice at once, or forward
them again when everything has moved on. It may also be cut as a whole.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final, NamedTuple

import aiohttp
from aiohttp import web

from tests.fault import plan
from tests.fault.history import History

_LIMIT_S: Final = 60
_LATE_S: Final = plan.LEASE_S + 1.0
_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})
"""Source: RFC 9110 section 7.6.1; lengths are the relay's own."""


class Fate(StrEnum):
    """What becomes of one request."""

    PASS = "pass"
    DROP_ANSWER = "drop_answer"
    DOUBLE = "double"
    REPEAT_LATE = "repeat_late"


_WEIGHTS: Final = {Fate.PASS: 86, Fate.DROP_ANSWER: 5, Fate.DOUBLE: 6, Fate.REPEAT_LATE: 3}


class _Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Way:
    """Relays to the broker at `broker_url`; its own address is `url`."""

    def __init__(self, broker_url: str, seed: int, history: History) -> None:
        self._broker_url = broker_url
        self._chance = random.Random(f"{seed}/way")
        self._history = history
        self._open: set[asyncio.Transport] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self.is_calm = False
        """Nothing is lost or doubled any more."""
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve for the block."""
        # A client that went away takes its request at the broker with it, as it would without a relay.
        server = web.Server(self._relay, handler_cancellation=True)
        runner = web.ServerRunner(server)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_LIMIT_S)) as self._http:
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                yield
            finally:
                await self.calm()
                await runner.cleanup()

    async def cut(self, for_s: float) -> None:
        """End every connection, and let nothing through for a time."""
        self._is_cut = True
        for transport in list(self._open):
            transport.abort()
        await asyncio.sleep(for_s)
        self._is_cut = False

    async def calm(self) -> None:
        """Lose and double nothing more; what was kept for later has come by then."""
        self.is_calm = True
        if self._late:
            await asyncio.wait(self._late)

    async def _relay(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        transport = request.transport
        self._open.add(transport)
        try:
            answer = None if self._is_cut else await self._answer(request, await request.read())
        except (aiohttp.ClientError, TimeoutError):
            answer = None
        finally:
            self._open.discard(transport)
        if answer is None:
            transport.abort()
            return web.Response(status=502)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    async def _answer(self, request: web.BaseRequest, body: bytes) -> _Answer | None:
        fate = self._fate(request)
        if fate is not Fate.PASS:
            self._history.note(fate.value, path=request.path)
        match fate:
            case Fate.DROP_ANSWER:
                await self._forward(request, body)
                return None
            case Fate.DOUBLE:
                first, second = await asyncio.gather(self._forward(request, body), self._forward(request, body))
                return self._chance.choice([first, second])
            case Fate.REPEAT_LATE:
                task = asyncio.create_task(self._repeat(request, body))
                self._late.add(task)
                task.add_done_callback(self._late.discard)
        return await self._forward(request, body)

    def _fate(self, request: web.BaseRequest) -> Fate:
        if self.is_calm or request.method == "GET":
            return Fate.PASS
        return self._chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]

    async def _repeat(self, request: web.BaseRequest, body: bytes) -> None:
        await asyncio.sleep(_LATE_S)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            await self._forward(request, body)

    async def _forward(self, request: web.BaseRequest, body: bytes) -> _Answer:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        url = f"{self._broker_url}{request.path_qs}"
        async with self._http.request(request.method, url, data=body, headers=headers) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            return _Answer(answer.status, kept, await answer.read())

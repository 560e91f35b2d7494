"""Connections: what aiohttp cannot read is refused as everything else is, and bodies stay as they were sent.

aiohttp bounds a head (8,190 bytes a line, 128 lines), and `keepalive_timeout` the time until the first one is complete,
and each next. Left to itself it would answer what it cannot read with the bytes it was sent, write a traceback into the
log for each, and unpack what is compressed.

Connections from one address are not counted: all launchers of a cluster may come from behind one, thousands of them.
How many there may be at all is what the process may have open.
"""

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import hdrs, web

from broker.http.problems import answer_problems, unread_answer

_EXPECTED = "100-continue"

log = structlog.get_logger(__name__)


class Connection(web.RequestHandler):
    """One connection."""

    __slots__ = ()

    @property
    def is_ending(self) -> bool:
        """It serves no other request, and what it was sent of this one and did not look at, it never will."""
        return bool(self._force_close or self._close)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be read; nothing of it is sent back, or logged."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        log.info("request_unreadable", reason=type(exc).__name__)
        answer = unread_answer(
            request,
            "this is no request that can be read: send HTTP/1.1 with one Host header, lines of at most 8190 bytes and "
            "at most 128 headers; to an https: address, by TLS",
        )
        answer.force_close()
        return answer


class Runner(web.AppRunner):
    """Runs an application over such connections; whatever goes wrong in it is answered as a problem."""

    __slots__ = ()

    def __init__(self, app: web.Application, *, shutdown_timeout: float, keepalive_timeout: float) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout, keepalive_timeout=keepalive_timeout, access_log=None)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        # What is compressed is refused: a few bytes of it could become gigabytes here.
        return _Server(made, {**self._kwargs, "auto_decompress": False})


class _Server(web.Server):
    def __init__(self, made: web.Server, options: dict[str, Any]) -> None:
        handler = partial(answer_problems, made.request_handler)
        super().__init__(handler, request_factory=made.request_factory, **options)
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=asyncio.get_running_loop(), **self._options)


def mark_answer(request: web.BaseRequest, answer: web.StreamResponse) -> None:
    """Say on an answer, before its headers go out, that the connection is closed after it, where it is."""
    if isinstance(request.protocol, Connection) and request.protocol.is_ending:
        answer.force_close()
        answer.headers[hdrs.CONNECTION] = "close"


async def answer_expectation(request: web.Request) -> web.StreamResponse | None:
    """Let a body come that waits to be asked for; any other expectation is refused."""
    if request.headers["Expect"].lower() != _EXPECTED:
        return unread_answer(request, f"Expect is understood as {_EXPECTED} only: leave it out")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0
    return None

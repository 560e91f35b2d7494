"""Answers that go on as things happen: how they begin, when they end, and who reads too slowly for them."""

import asyncio

from aiohttp import web

from broker.http.call import Call

HEARTBEAT_S = 15.0
SLOW_READER_S = 30.0


def stream_answer(content_type: str) -> web.StreamResponse:
    # A proxy that buffers would turn a live view into a late one.
    headers = {"Content-Type": content_type, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return web.StreamResponse(headers=headers)


def goes_on(call: Call) -> bool:
    """Tell whether there is more to be told: the broker stops, readers go, and tokens end."""
    return not call.services.bells.is_closed and call.request.transport is not None and _is_good(call)


def _is_good(call: Call) -> bool:
    """Tell whether the token that opened the door would open it now."""
    return call.who.expires_at_s > call.services.tokens.now_s() and not call.services.revocations.includes(call.who)


async def wait(rung: asyncio.Event, wait_s: float) -> None:
    """Wait for a bell, so long at most."""
    try:
        async with asyncio.timeout(max(wait_s, 0)):
            await rung.wait()
    except TimeoutError:
        return


async def write(answer: web.StreamResponse, data: bytes) -> None:
    """Write, and cut off who does not take it.

    Raises:
        ConnectionResetError: the reader is too slow.
    """
    try:
        async with asyncio.timeout(SLOW_READER_S):
            await answer.write(data)
    except TimeoutError as error:
        raise ConnectionResetError("the reader was too slow") from error

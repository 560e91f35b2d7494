"""Following a stream's event log: Server-Sent Events, or newline-delimited JSON.

Both are one loop over the log, from an id on: read what is there, else wait for a bell, the slow poll or the next
heartbeat. A reader that does not take what is written is closed, not buffered for.

Source: HTML Living Standard, section "Server-sent events".
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from broker.http.bells import SLOW_POLL_S
from broker.http.call import Call
from broker.http.contract import NDJSON, lines_of, operation, server_sent
from broker.http.parameters import AFTER, FOLLOW, LAST_EVENT_ID
from broker.http.streams import known_stream
from broker.store import EventBatch
from broker.wire.events import Event, Truncated

HEARTBEAT_S = 15.0
RETRY_MS = 2_000
SLOW_READER_S = 30.0
_BATCH_EVENTS = 500
_SSE = "text/event-stream"


@operation(answers=(server_sent(Event, Truncated), lines_of(Event)), parameters=(AFTER, FOLLOW, LAST_EVENT_ID))
async def events(call: Call) -> web.StreamResponse:
    """Send the stream's events after `Last-Event-ID` (or `?after=`), all of them without one."""
    query = call.query("after", "follow")
    after = call.request.headers.get("Last-Event-ID") or query.get("after")
    # Asked once before the answer begins, while a wrong id or stream can still be told.
    await call.services.store.read_events(call.stream, after, 1)
    if NDJSON in call.request.headers.get("Accept", ""):
        return await _send_lines(call, after, is_following=query.get("follow") == "1")
    return await _send_sse(call, after)


async def _send_sse(call: Call, after: str | None) -> web.StreamResponse:
    answer = _stream_answer(_SSE)
    await answer.prepare(call.request)
    await _write(answer, f"retry: {RETRY_MS}\n{f'id: {after}' if after else ':'}\n\n".encode())
    async for batch in _batches(call, after, is_following=True):
        if batch is None:
            await _write(answer, b":\n\n")
            continue
        if batch.truncated:
            await _write(answer, b"event: truncated\ndata: " + await _snapshot(call) + b"\n\n")
        await _write(answer, b"".join(_sse(event) for event in batch.events))
    return answer


async def _send_lines(call: Call, after: str | None, *, is_following: bool) -> web.StreamResponse:
    answer = _stream_answer(NDJSON)
    await answer.prepare(call.request)
    async for batch in _batches(call, after, is_following=is_following):
        if batch is None:
            await _write(answer, b"\n")
            continue
        if batch.truncated:
            await _write(answer, b'{"truncated":' + await _snapshot(call) + b"}\n")
        await _write(answer, b"".join(msgspec.json.encode(event) + b"\n" for event in batch.events))
    return answer


async def _batches(call: Call, after: str | None, *, is_following: bool) -> AsyncIterator[EventBatch | None]:
    """Yield the log from `after` on, batch by batch; None where a heartbeat is due. Ends when the broker stops."""
    bells = call.services.bells
    clock = asyncio.get_running_loop().time
    beat_at_s = clock() + HEARTBEAT_S
    with bells.following(call.stream) as rung:
        while not bells.is_closed:
            rung.clear()
            batch = await call.services.store.read_events(call.stream, after, _BATCH_EVENTS)
            if batch.events or batch.truncated:
                after = batch.events[-1].id if batch.events else None
                beat_at_s = clock() + HEARTBEAT_S
                yield batch
                continue
            if not is_following:
                return
            if clock() >= beat_at_s:
                beat_at_s = clock() + HEARTBEAT_S
                yield None
            await _wait(rung, min(SLOW_POLL_S, beat_at_s - clock()))


async def _wait(rung: asyncio.Event, wait_s: float) -> None:
    try:
        async with asyncio.timeout(max(wait_s, 0)):
            await rung.wait()
    except TimeoutError:
        return


async def _write(answer: web.StreamResponse, data: bytes) -> None:
    try:
        async with asyncio.timeout(SLOW_READER_S):
            await answer.write(data)
    except TimeoutError as error:
        raise ConnectionResetError("the reader of events was too slow") from error


async def _snapshot(call: Call) -> bytes:
    view = await known_stream(call)
    return msgspec.json.encode(Truncated(stream=view.stream, counts=view.counts))


def _sse(event: Event) -> bytes:
    return b"id: " + event.id.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


def _stream_answer(content_type: str) -> web.StreamResponse:
    # A proxy that buffers would turn a live view into a late one.
    headers = {"Content-Type": content_type, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return web.StreamResponse(headers=headers)

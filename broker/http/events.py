"""Following a stream's event log or a user's feed: Server-Sent Events, or newline-delimited JSON.

Both are one loop over the log, from an id on: read what is there, else wait for a bell, the slow poll or the next
heartbeat. A reader that does not take what is written is closed, not buffered for: it costs one batch, however much is
there to be read.

Source: HTML Living Standard, section "Server-sent events".
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import msgspec
from aiohttp import web

from broker.domain.scopes import Authority
from broker.http.bells import SLOW_POLL_S
from broker.http.call import Call, allow
from broker.http.contract import NDJSON, NOT_SEEN, lines_of, operation, server_sent
from broker.http.following import HEARTBEAT_S, goes_on, stream_answer, wait, write
from broker.http.parameters import AFTER, FOLLOW, LAST_EVENT_ID, USER
from broker.http.streams import known_stream
from broker.store import EventBatch
from broker.wire.events import Event, Truncated, TruncatedLine
from broker.wire.names import StreamRef, UserName, check_name
from broker.wire.problems import ProblemCode

RETRY_MS = 2_000
_BATCH_EVENTS = 100
"""A reader that takes nothing was seen to cost 200 KiB with batches of 100, 1.1 MiB with 500, which are no faster."""
_SSE = "text/event-stream"


@dataclass(frozen=True, slots=True)
class _Log:
    """What is followed: how it is read from an id on, and what is told where some of it is gone."""

    what: StreamRef | UserName
    read: Callable[[str | None, int], Awaitable[EventBatch]]
    count: Callable[[], Awaitable[Truncated]]


@operation(
    answers=(server_sent(Event, Truncated), lines_of(Event)),
    problems=(ProblemCode.TOO_MANY_FOLLOWERS,),
    parameters=(AFTER, FOLLOW, LAST_EVENT_ID),
)
async def events(call: Call) -> web.StreamResponse:
    """Send the stream's events after `Last-Event-ID` (or `?after=`), all of them without one."""
    call.query("after", "follow")
    read = partial(call.services.store.read_events, call.stream)
    return await _send(call, _Log(call.stream, read, partial(_count_stream, call)))


@operation(
    answers=(server_sent(Event, Truncated), lines_of(Event, TruncatedLine)),
    problems=(*NOT_SEEN, ProblemCode.TOO_MANY_FOLLOWERS),
    parameters=(USER, AFTER, FOLLOW, LAST_EVENT_ID),
)
async def feed(call: Call) -> web.StreamResponse:
    """Send the events of all of the user's streams, as `events` does; the ids are the feed's."""
    user = UserName(check_name(call.query("user", "after", "follow").get("user", call.who.subject), "user"))
    allow(call.who, Authority.READ, (user,))
    read = partial(call.services.store.read_feed, user)
    return await _send(call, _Log(user, read, partial(_count_user, call, user)))


async def _send(call: Call, log: _Log) -> web.StreamResponse:
    query = call.request.query
    after = call.request.headers.get("Last-Event-ID") or query.get("after")
    # Asked once before the answer begins, while a wrong id or stream, and one follower too many, can still be told.
    await log.read(after, 1)
    async with call.services.bells.following(log.what, call.who.subject) as rung:
        with call.services.revocations.ringing(call.who, rung):
            return await _follow(call, log, after, rung)


async def _follow(call: Call, log: _Log, after: str | None, rung: asyncio.Event) -> web.StreamResponse:
    is_lines = NDJSON in call.request.headers.get("Accept", "")
    batches = _batches(call, log, rung, after, is_following=not is_lines or call.request.query.get("follow") == "1")
    return await (_send_lines(call, log, batches) if is_lines else _send_sse(call, log, batches, after))


async def _send_sse(
    call: Call, log: _Log, batches: AsyncIterator[EventBatch | None], after: str | None
) -> web.StreamResponse:
    answer = stream_answer(_SSE)
    await answer.prepare(call.request)
    await write(answer, f"retry: {RETRY_MS}\n{f'id: {after}' if after else ':'}\n\n".encode())
    async for batch in batches:
        if batch is None:
            await write(answer, b":\n\n")
            continue
        if batch.truncated:
            await write(answer, b"event: truncated\ndata: " + msgspec.json.encode(await log.count()) + b"\n\n")
        await write(answer, b"".join(_sse(event) for event in batch.events))
    return answer


async def _send_lines(call: Call, log: _Log, batches: AsyncIterator[EventBatch | None]) -> web.StreamResponse:
    answer = stream_answer(NDJSON)
    await answer.prepare(call.request)
    async for batch in batches:
        if batch is None:
            await write(answer, b"\n")
            continue
        if batch.truncated:
            await write(answer, msgspec.json.encode(TruncatedLine(truncated=await log.count())) + b"\n")
        await write(answer, b"".join(msgspec.json.encode(event) + b"\n" for event in batch.events))
    return answer


async def _batches(
    call: Call, log: _Log, rung: asyncio.Event, after: str | None, *, is_following: bool
) -> AsyncIterator[EventBatch | None]:
    """Yield the log from `after` on, batch by batch; None where a heartbeat is due.

    Ends when the broker stops, the reader is found to be gone, or its token is over.
    """
    clock = asyncio.get_running_loop().time
    beat_at_s = clock() + HEARTBEAT_S
    while goes_on(call):
        rung.clear()
        batch = await log.read(after, _BATCH_EVENTS)
        if batch.events or batch.truncated:
            after = batch.events[-1].place if batch.events else None
            beat_at_s = clock() + HEARTBEAT_S
            yield batch
            continue
        if not is_following:
            return
        if clock() >= beat_at_s:
            beat_at_s = clock() + HEARTBEAT_S
            yield None
        await wait(rung, min(SLOW_POLL_S, beat_at_s - clock()))


async def _count_stream(call: Call) -> Truncated:
    view = await known_stream(call)
    return Truncated(stream=view.stream, counts=view.counts)


async def _count_user(call: Call, user: UserName) -> Truncated:
    counts: Counter[str] = Counter()
    for view in await call.services.store.list_streams(user):
        counts.update(view.counts)
    return Truncated(user=user, counts=dict(counts))


def _sse(event: Event) -> bytes:
    return b"id: " + event.place.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"

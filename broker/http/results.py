"""Results of done and held items: as they are now, or as they settle.

Who follows is told of each state in the order in which items came into it, from a place on that is two times, that of
the last done item told and that of the last held one. Several items have one millisecond, so that going on from a place
tells those of that very millisecond again: nothing is missed, and a reader knows them by item and `settled_at`.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from aiohttp import web

from broker.domain.errors import Rejected
from broker.domain.paths import FILE_SCHEME
from broker.http.bells import SLOW_POLL_S
from broker.http.call import Call
from broker.http.contract import NDJSON, lines_of, operation
from broker.http.following import HEARTBEAT_S, goes_on, stream_answer, wait, write
from broker.http.parameters import FOLLOW_RESULTS, RESULT_STATE, RESULTS_AFTER
from broker.http.streams import known_stream
from broker.wire.files import ResultLine
from broker.wire.items import ItemView, OutputFile
from broker.wire.problems import ProblemCode
from broker.wire.states import ItemState

_PAGE_ITEMS = 500
_FOLLOWED_PAGE_ITEMS = 100
"""Smaller, as a reader may be slow to take them: see `events`."""
_WITH_RESULT = (ItemState.DONE, ItemState.HELD)
_PLACE = re.compile(r"([0-9]{1,15})-([0-9]{1,15})")
_AFTER_NONE = 999_999_999_999_999
"""A number that no item has: the cursor that begins with the first item of its time."""


@dataclass(slots=True)
class _Followed:
    """How far one state was told: up to `at_ms`, and of that millisecond the items in `told`."""

    state: ItemState
    at_ms: int
    told: set[str] = field(default_factory=set)

    async def page(self, call: Call) -> list[ItemView]:
        """Return items that were not told yet, oldest first; none when there are no more now."""
        cursor: str | None = f"{self.at_ms}-{_AFTER_NONE}" if self.at_ms else None
        while True:
            page = await call.services.store.list_items(call.stream, self.state, cursor, _FOLLOWED_PAGE_ITEMS)
            fresh = [item for item in page.items if not (_settled_ms(item) == self.at_ms and item.item in self.told)]
            for item in fresh:
                self._note(item)
            cursor = page.next_cursor
            if fresh or cursor is None:
                return fresh

    def _note(self, item: ItemView) -> None:
        if _settled_ms(item) != self.at_ms:
            self.at_ms, self.told = _settled_ms(item), set()
        self.told.add(item.item)


@operation(
    answers=lines_of(ResultLine),
    problems=(ProblemCode.TOO_MANY_FOLLOWERS,),
    parameters=(RESULT_STATE, FOLLOW_RESULTS, RESULTS_AFTER),
)
async def results(call: Call) -> web.StreamResponse:
    """Send one line for each done or held item, as they are now; with `?follow=1`, each as it settles, without end."""
    query = call.query("state", "follow", "after")
    states = _states(query.get("state"))
    is_following = query.get("follow", "0") == "1"
    if query.get("follow", "0") not in {"0", "1"}:
        raise Rejected(ProblemCode.BAD_REQUEST, "follow is 0 or 1")
    place = _place(query.get("after"))
    if "after" in query and not is_following:
        raise Rejected(ProblemCode.BAD_REQUEST, "after goes with follow=1")
    await known_stream(call)
    if not is_following:
        return await _send_all(call, states)
    async with call.services.bells.following(call.stream, call.who.subject) as rung:
        with call.services.revocations.ringing(call.who, rung):
            return await _follow(call, states, place, rung)


async def _send_all(call: Call, states: tuple[ItemState, ...]) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-store"})
    await answer.prepare(call.request)
    async for item in _settled(call, states):
        await write(answer, msgspec.json.encode(_result(call, item)) + b"\n")
    await answer.write_eof()
    return answer


async def _settled(call: Call, states: tuple[ItemState, ...]) -> AsyncIterator[ItemView]:
    cursor: str | None = None
    only = states[0] if len(states) == 1 else None
    while True:
        page = await call.services.store.list_items(call.stream, only, cursor, _PAGE_ITEMS)
        for item in page.items:
            if item.state in states:
                yield item
        cursor = page.next_cursor
        if cursor is None:
            return


async def _follow(
    call: Call, states: tuple[ItemState, ...], place: tuple[int, int], rung: asyncio.Event
) -> web.StreamResponse:
    followed = {state: _Followed(state, at_ms) for state, at_ms in zip(_WITH_RESULT, place, strict=True)}
    clock = asyncio.get_running_loop().time
    answer = stream_answer(NDJSON)
    await answer.prepare(call.request)
    beat_at_s = clock() + HEARTBEAT_S
    while goes_on(call):
        rung.clear()
        is_quiet = True
        for state in states:
            while items := await followed[state].page(call):
                is_quiet = False
                await write(answer, b"".join(_line(call, item, followed) for item in items))
                beat_at_s = clock() + HEARTBEAT_S
        if is_quiet and clock() >= beat_at_s:
            beat_at_s = clock() + HEARTBEAT_S
            await write(answer, b"\n")
        await wait(rung, min(SLOW_POLL_S, beat_at_s - clock()))
    return answer


def _line(call: Call, item: ItemView, followed: dict[ItemState, _Followed]) -> bytes:
    # A connection may break after any line: what comes after it in its state was not told then.
    times = [_settled_ms(item) if each is item.state else followed[each].at_ms for each in _WITH_RESULT]
    line = msgspec.structs.replace(_result(call, item), position="-".join(map(str, times)))
    return msgspec.json.encode(line) + b"\n"


def _result(call: Call, item: ItemView) -> ResultLine:
    return ResultLine.of(item, [_with_address(call, output) for output in item.outputs])


def _with_address(call: Call, output: OutputFile) -> OutputFile:
    if not output.url.startswith(FILE_SCHEME):
        return output
    address = call.services.urls.plain(f"/v1/files/{output.url.removeprefix(FILE_SCHEME)}")
    return msgspec.structs.replace(output, url=address)


def _states(text: str | None) -> tuple[ItemState, ...]:
    if text is None:
        return _WITH_RESULT
    if text not in _WITH_RESULT:
        raise Rejected(ProblemCode.BAD_REQUEST, "state is done or held")
    return (ItemState(text),)


def _place(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 0
    match = _PLACE.fullmatch(text)
    if match is None:
        raise Rejected(ProblemCode.BAD_REQUEST, f"{text[:64]!r} is no place: pass the last `position` you saw, or none")
    return int(match[1]), int(match[2])


def _settled_ms(item: ItemView) -> int:
    return 0 if item.settled_at is None else round(datetime.fromisoformat(item.settled_at).timestamp() * 1_000)

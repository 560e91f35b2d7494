"""Following results over connections that break anywhere: each once, whatever settled in one millisecond."""

import asyncio

import pytest
from yarl import URL

from broker.client.errors import ApiError
from broker.client.results import follow_results
from broker.client.session import Session
from broker.wire.files import ResultLine
from broker.wire.names import StreamRef, UserName
from tests.support.api import Api, add_stream
from tests.support.cuttable import cuttable_way

RENDER = StreamRef(UserName("alice"), "render")
ITEMS, ONE_BY_ONE = 300, 40
BREAKS = (700, 1_501, 4_777, 9_200, 15_999)


async def followed(user: Api, breaks: tuple[int, ...], count: int, *acts: tuple[str, str]) -> list[ResultLine]:
    """Follow until so many results came; the acts are done when the first one is there."""
    lines: list[ResultLine] = []
    with cuttable_way(URL(user.url).port or 0, breaks) as way:
        async with Session(f"http://127.0.0.1:{way.port}", token=user.token) as session:
            async for line in follow_results(session, RENDER):
                lines.append(line)
                if len(lines) == 1:
                    for act in acts:
                        await user.ok(*act, json={})
                if len(lines) == count:
                    break
        assert way.broken == len(breaks)
    return lines


async def test_what_settled_and_what_settles_is_told_once(user: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}] * ITEMS)
    for number in range(1, ONE_BY_ONE + 1):
        await user.ok("POST", f"{stream}/items/{number}/hold", json={})

    # An act on the whole stream settles hundreds in one millisecond, of which a page and a connection end anywhere.
    lines = await followed(user, BREAKS, ITEMS, ("POST", f"{stream}/hold"))

    assert sorted(int(line.item.rpartition("/")[2]) for line in lines) == list(range(1, ITEMS + 1))
    assert [line.settled_at or "" for line in lines] == sorted(line.settled_at or "" for line in lines)


async def test_an_item_that_settles_again_is_another_result(user: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])
    await user.ok("POST", f"{stream}/items/1/hold", json={"reason": "once"})
    again = (("POST", f"{stream}/items/1/release"), ("POST", f"{stream}/items/1/hold"))
    once, twice = await followed(user, (), 2, *again)
    assert (once.item, twice.item) == ("alice/render/1", "alice/render/1")
    assert (once.settled_at or "") < (twice.settled_at or "")


@pytest.mark.parametrize("query", ["follow=2", "after=1-1", "follow=1&after=1", "follow=1&state=ready"])
async def test_a_wrong_question_is_refused(user: Api, query: str) -> None:
    stream = await add_stream(user)
    assert (await user.call("GET", f"{stream}/results?{query}")).status == 400


async def test_a_stream_that_is_not_there_ends_it(user: Api) -> None:
    async with Session(user.url, token=user.token) as session:
        with pytest.raises(ApiError) as refused:
            await asyncio.wait_for(anext(follow_results(session, RENDER)), 10)
    assert refused.value.status == 404

"""Our own client over connections that break anywhere: each event once, and its errors where nothing helps."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from broker.client.errors import ApiError
from broker.client.events import Said, follow, read
from broker.client.session import Session
from broker.wire.events import Event, Truncated
from broker.wire.names import StreamRef, UserName
from tests.support.api import Api, add_stream
from tests.support.cuttable import CuttableWay, cuttable_way

PUSHED = 60
ALICE = UserName("alice")
RENDER = StreamRef(ALICE, "render")
BREAKS = (500, 501, 777, 1_200, 1_999)
LOGS = [pytest.param(RENDER, id="log"), pytest.param(ALICE, id="feed")]


@pytest.fixture
async def pushed(user: Api) -> Api:
    stream = await add_stream(user)
    for _ in range(PUSHED):
        await user.ok("POST", f"{stream}/items", json=[{}])
    return user


@asynccontextmanager
async def breaking(user: Api) -> AsyncIterator[tuple[Session, CuttableWay]]:
    with cuttable_way(URL(user.url).port or 0, BREAKS) as way:
        async with Session(f"http://127.0.0.1:{way.port}", token=user.token) as session:
            yield session, way


@pytest.mark.parametrize("what", LOGS)
async def test_what_is_kept_is_read_once_though_the_connection_breaks(pushed: Api, what: StreamRef | UserName) -> None:
    async with breaking(pushed) as (session, way):
        said = [each async for each in read(session, what)]
        assert way.broken == len(BREAKS)
    assert _sequences(said) == list(range(1, PUSHED + 2))


@pytest.mark.parametrize("what", LOGS)
async def test_what_happens_is_told_once_though_the_connection_breaks(pushed: Api, what: StreamRef | UserName) -> None:
    said: list[Said] = []
    async with breaking(pushed) as (session, way):
        async for each in follow(session, what):
            said.append(each)
            if len(said) == PUSHED + 1:
                break
        assert way.broken == len(BREAKS)
    assert _sequences(said) == list(range(1, PUSHED + 2))


@pytest.mark.parametrize("what", LOGS)
async def test_only_what_came_after_a_place_is_read(pushed: Api, what: StreamRef | UserName) -> None:
    async with Session(pushed.url, token=pushed.token) as session:
        said = [each async for each in read(session, what)]
        assert isinstance(said[-3], Event)
        assert [each async for each in read(session, what, said[-3].place)] == said[-2:]


async def test_events_that_are_gone_are_told_with_the_counts_of_their_log(pushed: Api) -> None:
    async with Session(pushed.url, token=pushed.token) as session:
        of_stream = await anext(read(session, RENDER, "99-9"))
        of_user = await anext(follow(session, ALICE, "99-9"))
    assert isinstance(of_stream, Truncated)
    assert (of_stream.stream, of_stream.user, of_stream.counts["ready"]) == ("alice/render", None, PUSHED)
    assert isinstance(of_user, Truncated)
    assert (of_user.stream, of_user.user, of_user.counts["ready"]) == (None, "alice", PUSHED)


async def test_refusal_ends_it(user: Api) -> None:
    async with Session(user.url, token=user.token) as session:
        for events in (read(session, RENDER), follow(session, UserName("bob"))):
            with pytest.raises(ApiError) as refused:
                await anext(events)
            assert refused.value.status == 404


def _sequences(said: list[Said]) -> list[int]:
    """Return the sequence of each; a feed of one stream has those of the stream."""
    return [int(each.sequence) for each in said if isinstance(each, Event)]

"""Logs of events over several lives of the store's server: over a restart, and over an older copy put back."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

import pytest

from broker.domain.errors import Unavailable
from broker.store import EventBatch, Store
from tests.integration.store.scene import ALICE, RENDER, Scene
from tests.support.stores import PREFIX, StoreServer, served, short_folder, unexpected_keys
from tests.support.waiting import until

Read = Callable[[Store, str | None], Awaitable[EventBatch]]
READS = [
    pytest.param(lambda store, after: store.read_events(RENDER, after, 100), id="log"),
    pytest.param(lambda store, after: store.read_feed(ALICE, after, 100), id="feed"),
]


class Lives:
    """A store whose server can be ended, started again over the same folder, and put back to what was kept of it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind, self._folder, self._kept = kind, folder / "now", folder / "kept"
        self._folder.mkdir()

    def server(self) -> AbstractContextManager[StoreServer]:
        return served(self._kind, self._folder)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Store]:
        with self.server() as server:
            store = await Store.connect(server.url, prefix=PREFIX)
            try:
                yield store
                assert await unexpected_keys(store) == []
            finally:
                await store.close()

    def keep(self) -> None:
        """Keep a copy, to be called while no server runs."""
        shutil.copytree(self._folder, self._kept)

    def put_back(self) -> None:
        shutil.rmtree(self._folder)
        shutil.copytree(self._kept, self._folder)


@pytest.fixture(params=["valkey", "redis"])
def lives(request: pytest.FixtureRequest) -> Iterator[Lives]:
    with short_folder(request.param) as folder:
        yield Lives(request.param, folder)


@pytest.mark.parametrize("read", READS)
async def test_restart_that_lost_nothing_leaves_no_gap(lives: Lives, read: Read) -> None:
    async with lives.one() as store:
        await (await Scene(store).set_up()).push(1)
        seen = (await read(store, None)).events
    async with lives.one() as store:
        await Scene(store).push(1)
        batch = await read(store, seen[-1].place)
        assert not batch.truncated
        assert [_sequence(event.place) for event in seen + batch.events] == [1, 2, 3]
        assert _epoch(batch.events[0].place) > _epoch(seen[-1].place)
        view = await store.get_stream(RENDER)
        assert view is not None
        assert view.last_event == batch.events[-1].id


@pytest.mark.parametrize("read", READS)
async def test_reader_of_events_that_an_older_copy_lost_is_told(lives: Lives, read: Read) -> None:
    async with lives.one() as store:
        await (await Scene(store).set_up()).push(1)
        before = (await read(store, None)).events[-1]
    lives.keep()
    async with lives.one() as store:
        await Scene(store).push(1)
        lost = (await read(store, before.place)).events[-1]
    lives.put_back()
    async with lives.one() as store:
        assert (await read(store, lost.place)).truncated
        await Scene(store).push(2)
        await Scene(store).push(3)
        batch = await read(store, lost.place)
        assert batch.truncated, "an event with the lost one's sequence is there, and is another one"
        assert [_sequence(event.place) for event in batch.events] == [1, 2, 3, 4]
        assert not (await read(store, before.place)).truncated


async def test_broker_that_outlives_its_stores_server_notices_the_next_one(lives: Lives) -> None:
    with lives.server() as server:
        store = await Store.connect(server.url, prefix=PREFIX)
        await (await Scene(store).set_up()).push(1)
        seen = (await store.read_events(RENDER, None, 100)).events[-1]
    try:
        with lives.server():
            await until(lambda: _answers(store), "the connections are mended")
            await Scene(store).push(1)
            batch = await store.read_events(RENDER, seen.id, 100)
            assert _epoch(batch.events[0].id) > _epoch(seen.id)
    finally:
        await store.close()


async def _answers(store: Store) -> bool:
    try:
        await store.ping()
    except Unavailable:
        return False
    return True


def _epoch(place: str) -> int:
    return int(place.partition("-")[0])


def _sequence(place: str) -> int:
    return int(place.partition("-")[2])

"""Programs of other people read events through connections that break in mid-message, and a broker that is killed.

A browser's EventSource is Node's here: a browser from Debian would be three times its size, is not there on Ubuntu, and
could be given no token. Node's passes the web platform's tests of EventSource, and comes from PyPI.
"""

import json
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from tests.integration.events.readers import BrowsersEventSource, CurlLines, CurlMessages, Event, OurCommand, Reader
from tests.support.api import Api, add_stream
from tests.support.cuttable import CuttableWay, cuttable_way
from tests.support.grid import Broker, Home, free_port
from tests.support.waiting import until

LOG, FEED = "/v1/streams/alice/render/events", "/v1/events"
EACH = 50
"""Pushes into each stream in each part of the story: together several times what the breaking connections carry."""
LINES = {"Accept": "application/x-ndjson"}


class Story:
    """A broker, what is pushed meanwhile, and everybody who reads."""

    def __init__(self, folder: Path) -> None:
        self._home = Home(folder)
        self._broker = Broker(self._home, free_port())
        self._readers: list[tuple[Reader, CuttableWay, int]] = []
        self._stack = ExitStack()

    @asynccontextmanager
    async def broker(self, *, is_killed: bool = False) -> AsyncIterator[Api]:
        with self._broker.serving() as process:
            async with aiohttp.ClientSession() as http:
                yield Api(http, self._broker.url, self.token)
            if is_killed:
                process.kill()

    @property
    def token(self) -> str:
        return str(json.loads((self._home.folder / "config/vmbroker/login.json").read_text())["token"])

    def read(self, kind: type[Reader], path: str, breaks: list[int]) -> None:
        """Begin to read by a way that breaks so often, each time after so many bytes."""
        way = self._stack.enter_context(cuttable_way(self._broker.port, breaks))
        folder = self._home.folder / f"{kind.__name__}{len(self._readers)}"
        folder.mkdir()
        reader = kind(f"http://127.0.0.1:{way.port}{path}", self.token, folder)
        self._stack.enter_context(reader.reading())
        self._readers.append((reader, way, len(breaks)))

    async def all_read(self, user: Api) -> None:
        """Return when everybody has read as many events as there are."""
        logged = {path: len(await lines(user, path)) for path in (LOG, FEED)}

        async def have_read() -> bool:
            return all(len(reader.events) >= logged[_path(reader)] for reader, _, _ in self._readers)

        try:
            await until(have_read, "every event was read", timeout_s=60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._shown()}, of {logged}") from error

    def check(self, told: dict[str, list[Event]]) -> None:
        """Check that each got each event once, in order, though its way broke."""
        for reader, way, breaks in self._readers:
            # The end of the broker itself may take the place of one, and what is read after it be less than the last.
            assert breaks - 2 <= way.broken <= breaks, f"{reader}: its way broke {way.broken} times, not {breaks}"
            assert (reader.runs == 1) is reader.lasts, f"{reader}: started {reader.runs} times"
            assert reader.truncated == 0
            assert [_plain(event) for event in reader.events] == told[_path(reader)], (
                f"{reader}: {reader.log.read_text()}"
            )

    def end(self) -> None:
        self._stack.close()

    def _shown(self) -> str:
        return ", ".join(f"{reader} has {len(reader.events)}" for reader, _, _ in self._readers)


async def test_every_reader_gets_every_event_once(tmp_path: Path) -> None:
    seed = random.randrange(1_000_000)
    print(f"breaks by seed {seed}")
    story, breaks = Story(tmp_path), Breaks(seed)
    try:
        async with story.broker() as user:
            streams = [await add_stream(user, job) for job in ("render", "draw")]
            for path in (LOG, FEED):
                story.read(CurlMessages, path, breaks(12))
                story.read(CurlLines, path, breaks(12))
                # An EventSource waits two seconds before each new connection, as the broker asks it to.
                story.read(BrowsersEventSource, path, breaks(2))
            # Its first answer says whom the token speaks for, and it tries for that but a few times.
            story.read(OurCommand, FEED, breaks(6, least=1_500))
            await push(user, streams)
            await story.all_read(user)
        async with story.broker(is_killed=True) as user:
            await push(user, streams)
        async with story.broker() as user:
            await push(user, streams)
            await story.all_read(user)
            told = {path: await lines(user, path) for path in (LOG, FEED)}
            story.check(told)
    finally:
        story.end()
    assert [_sequence(event["sequence"]) for event in told[LOG]] == list(range(1, 3 * EACH + 2))
    assert [_sequence(event["position"]) for event in told[FEED]] == list(range(1, 6 * EACH + 3))


class Breaks:
    """Numbers of bytes, each anywhere in a message."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, count: int, least: int = 400) -> list[int]:
        return [self._random.randrange(least, least + 2_000) for _ in range(count)]


async def push(user: Api, streams: list[str]) -> None:
    for _ in range(EACH):
        for stream in streams:
            await user.ok("POST", f"{stream}/items", json=[{}])


async def lines(user: Api, path: str) -> list[Event]:
    return [json.loads(line) for line in (await user.call("GET", path, headers=LINES)).body.splitlines()]


def _path(reader: Reader) -> str:
    return LOG if LOG in reader.url else FEED


def _plain(event: Event) -> Event:
    """Return the event as it is in the log; the id of its message is its place."""
    place = event.get("sse_id", event["id"])
    assert place in {event["id"], event.get("position")}
    return {name: value for name, value in event.items() if name != "sse_id"}


def _sequence(place: str) -> int:
    return int(place.rpartition("-")[2])

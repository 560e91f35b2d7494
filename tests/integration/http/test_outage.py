"""The client's calls go through an outage by themselves, of the broker or of the store under it, and count once."""

import asyncio
import base64
import json
import os
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import aiohttp
import pytest

from broker.app import running_broker
from broker.client.dispatch import DispatchClient
from broker.client.events import read
from broker.client.lease import LeaseClient
from broker.client.researcher import Researcher
from broker.client.session import Patience, Session
from broker.settings import Settings, load_settings
from broker.store import Store
from broker.wire.dispatches import DispatchAnswer, DispatchExtend, DispatchRequest, EndVm, Room, VmEvent
from broker.wire.events import Event, EventType
from broker.wire.items import NewItem, Pushed
from broker.wire.leases import ClaimRequest, CompleteRequest, FailRequest
from broker.wire.names import ItemRef, StreamRef, UserName
from broker.wire.states import Accelerator, FailureCode, Phase, Verdict
from tests.support.api import Api, add_stream
from tests.support.grid import free_port
from tests.support.waiting import until

STREAM = StreamRef(UserName("alice"), "render")
ROOM = Room(vcpus=4, memory_mib=8_192, disk_mib=100_000, accelerator=Accelerator.TCG)
RESULT = CompleteRequest(outputs=[])


class NotedPatience(Patience):
    """The client's own patience; notes each wait before a call is made again."""

    waits_s: ClassVar[list[float]] = []

    def delay_s(self, attempt: int, retry_after_s: float | None) -> float:
        delay_s = Patience.delay_s(self, attempt, retry_after_s)
        self.waits_s.append(delay_s)
        return delay_s


@dataclass
class Site:
    """A broker that can be stopped and started again on its port, and the clients of all who call it."""

    settings: Settings
    broker: AsyncExitStack
    """In which it runs."""
    session: Session
    """The researcher's."""
    researcher: Researcher
    launcher: DispatchClient
    guest: LeaseClient

    async def start(self) -> None:
        await self.broker.enter_async_context(running_broker(self.settings))

    async def stop(self) -> None:
        await self.broker.aclose()

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """Look at the broker's store from beside it."""
        store = await Store.connect(f"unix://{self.settings.data}/store/store.sock")
        try:
            yield store
        finally:
            await store.close()

    async def dispatched(self) -> DispatchAnswer:
        given = await self.launcher.dispatch(request())
        assert given is not None
        await self.launcher.report(given.dispatch, VmEvent(launcher="l1", phase=Phase.PREPARING))
        return given

    async def lease(self) -> str:
        given = await self.dispatched()
        return (await self.guest.claim(claim_of(given))).lease


def request() -> DispatchRequest:
    return DispatchRequest(dispatch_key=secrets.token_hex(16), launcher="l1", node="n1", room=ROOM, wait_ms=0)


def claim_of(given: DispatchAnswer) -> ClaimRequest:
    return ClaimRequest(ticket=given.ticket, claim_key=base64.b64encode(secrets.token_bytes(32)).decode())


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(NotedPatience, "waits_s", [])
    listen = f"127.0.0.1:{free_port()}"
    settings = load_settings({"data": tmp_path / "data", "listen": listen, "user": "alice"})
    async with AsyncExitStack() as broker, AsyncExitStack() as clients:
        url = await broker.enter_async_context(running_broker(settings))
        http = await clients.enter_async_context(aiohttp.ClientSession())
        await add_stream(Api(http, url, _token(tmp_path, "login")))

        async def session(token: str | None) -> Session:
            return await clients.enter_async_context(Session(url, token=token, patience=NotedPatience()))

        own = await session(_token(tmp_path, "login"))
        launcher = DispatchClient(await session(_token(tmp_path, "launcher")))
        yield Site(settings, broker, own, Researcher(own), launcher, LeaseClient(await session(None)))


def _token(folder: Path, name: str) -> str:
    return str(json.loads((folder / f"config/vmbroker/{name}.json").read_text())["token"])


async def push(site: Site, items: int) -> Pushed:
    [pushed] = [each async for each in site.researcher.push(STREAM, [NewItem()] * items, secrets.token_hex(8))]
    return pushed


async def _every_call(site: Site) -> list[Awaitable[object]]:
    """Bring items to where each of a researcher's, a launcher's and a guest's calls can be made, and make them."""
    await push(site, 10)
    extending, completing, failing = [await site.lease() for _ in range(3)]
    booting, claiming, attended, ending = [await site.dispatched() for _ in range(4)]
    failure = FailRequest(code=FailureCode.PROGRAM_FAILED, sentence="it failed", exit_code=1)
    end = EndVm(launcher="l1", verdict=Verdict.HOST_ERROR, sentence="the node failed")
    return [
        push(site, 5),
        site.researcher.cancel(ItemRef(STREAM, 9)),
        site.researcher.stream(STREAM),
        site.launcher.dispatch(request()),
        site.launcher.report(booting.dispatch, VmEvent(launcher="l1", phase=Phase.BOOTING)),
        site.launcher.extend(attended.dispatch, DispatchExtend(launcher="l1")),
        site.launcher.end(ending.dispatch, end),
        site.guest.claim(claim_of(claiming)),
        site.guest.extend(extending),
        site.guest.complete(completing, RESULT),
        site.guest.fail(failing, failure),
    ]


async def _check_that_each_counted_once(site: Site) -> None:
    """The item that came back by its launcher's end is at the head, so a later dispatch may have been given it."""
    counts = (await site.researcher.stream(STREAM)).counts
    there = {state: number for state, number in counts.items() if number}
    assert there == {"running": 2, "dispatched": 3, "done": 1, "delayed": 1, "cancelled": 1, "ready": 7}
    events = [event async for event in read(site.session, STREAM) if isinstance(event, Event)]
    assert [int(event.sequence) for event in events] == list(range(1, len(events) + 1))
    times = Counter(event.kind for event in events)
    assert (times[EventType.ITEMS_PUSHED], times[EventType.ITEM_DISPATCHED], times[EventType.ITEM_CLAIMED]) == (2, 8, 4)


async def test_calls_that_begin_while_the_broker_is_away_end_well_when_it_is_back(site: Site) -> None:
    calls = await _every_call(site)
    await site.stop()
    begun = [asyncio.ensure_future(call) for call in calls]
    await until(lambda: _have_waited(len(begun)), "each call has met a broker that is not there")
    await site.start()
    await asyncio.gather(*begun)
    await _check_that_each_counted_once(site)


async def test_calls_that_begin_while_the_store_is_away_end_well_when_it_is_back(site: Site) -> None:
    calls = await _every_call(site)
    async with site.store() as store:
        pid = (await store._server.command("INFO", "server"))["process_id"]
    os.kill(pid, signal.SIGKILL)
    await asyncio.gather(*calls)
    assert NotedPatience.waits_s, "some call was answered that the store is away"
    await _check_that_each_counted_once(site)


async def test_a_store_without_memory_is_a_503_to_who_brings_more_and_none_to_who_settles(site: Site) -> None:
    await push(site, 1)
    lease = await site.lease()
    async with site.store() as store:
        await store._server.command("CONFIG", "SET", "maxmemory", "1")
        pushing = asyncio.ensure_future(push(site, 1))
        assert (await site.guest.complete(lease, RESULT)).state == "done"
        await until(lambda: _have_waited(1), "the push was refused")
        await store._server.command("CONFIG", "SET", "maxmemory", "0")
    assert (await pushing).first == 2
    assert NotedPatience.waits_s == [2.0], "as long as the broker's Retry-After says"


async def _have_waited(calls: int) -> bool:
    return len(NotedPatience.waits_s) >= calls

"""A launcher that ends by itself: without work for too long, or after enough of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.client.dispatch import DispatchClient
from broker.client.session import ONCE, Session
from broker.wire.dispatches import DispatchAnswer, DispatchRequest
from broker.wire.states import Accelerator, HealthCode, HealthState, Verdict
from launcher.node import agent
from launcher.node.agent import Agent
from launcher.node.bounds import Bounds
from launcher.node.draining import Drain
from launcher.node.node import Node
from launcher.node.presence import About
from launcher.node.slot import Slot
from launcher.node.standing import Standing
from launcher.node.verdicts import Ending
from launcher.node.vms import Outcome
from launcher.settings import SettingsError, read_settings
from tests.support.dispatches import dispatched
from tests.support.waiting import until

IDLE_S = 0.3
DONE = Ending(Verdict.COMPLETED, "the result was accepted")
FULL = Ending(Verdict.HOST_ERROR, "the scratch folder is full", HealthCode.DISK_FULL)
Reply = Callable[[DispatchRequest], Awaitable[DispatchAnswer | None]]


class Stage:
    """A broker that answers as it is told, and vms that run until they are let go.

    Attributes:
        offers: what the launcher offered.
        vms: the dispatches that were run, and whether each was drained by its end; None while it runs.
    """

    def __init__(self, reply: Reply) -> None:
        self.offers: list[DispatchRequest] = []
        self.vms: dict[str, bool | None] = {}
        self.let_go = asyncio.Event()
        self.standing = Standing(Slot(vms=4, vcpus=4, memory_mib=4_000, disk_mib=100, accelerator=Accelerator.TCG))
        self._reply = reply

    async def answer(self, request: web.Request) -> web.Response:
        offer = msgspec.json.decode(await request.read(), type=DispatchRequest)
        self.offers.append(offer)
        given = await self._reply(offer)
        return web.Response(status=204) if given is None else web.Response(body=msgspec.json.encode(given))

    def vm(self, _node: Node, answer: DispatchAnswer, _note: object) -> Any:
        async def run(drain: Drain) -> Outcome:
            self.vms[answer.dispatch] = None
            await self.let_go.wait()
            self.vms[answer.dispatch] = drain.is_ordered
            return Outcome(DONE)

        return SimpleNamespace(run=run)


@asynccontextmanager
async def running(stage: Stage, bounds: Bounds, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Task[object]]:
    monkeypatch.setattr(agent, "VmRun", stage.vm)
    app = web.Application()
    app.router.add_post("/v1/dispatch", stage.answer)
    async with TestServer(app) as server, Session(str(server.make_url("/")), patience=ONCE) as session:
        node = cast("Node", SimpleNamespace(name="l1", dispatches=DispatchClient(session)))
        about = About(name="l1", broker=session.base_url, node_name="node17", client="1.0")
        work = asyncio.create_task(Agent(node, stage.standing, about, bounds).run(Drain()))
        try:
            async with asyncio.timeout(20):
                yield work
        finally:
            work.cancel()
            await asyncio.wait([work])


async def nothing(offer: DispatchRequest) -> None:
    """Keep the offer as long as it waits, as a broker without work does."""
    await asyncio.sleep(offer.wait_ms / 1000)


async def test_a_launcher_without_work_ends_and_no_offer_of_it_waits_longer_than_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(nothing)
    began_s = asyncio.get_running_loop().time()
    async with running(stage, Bounds(idle_s=IDLE_S), monkeypatch) as work:
        assert await work is None
    assert asyncio.get_running_loop().time() - began_s >= IDLE_S
    assert stage.offers
    assert all(offer.wait_ms <= IDLE_S * 1000 for offer in stage.offers)
    health = stage.standing.health
    assert (health.state, health.code) == (HealthState.DRAINING, HealthCode.TOLD_TO_DRAIN)
    assert "no item came for 0.3 s" in health.sentence


async def test_an_item_that_is_given_in_the_last_moment_is_run_and_a_launcher_with_a_vm_is_not_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def at_the_end(offer: DispatchRequest) -> DispatchAnswer | None:
        await nothing(offer)
        return dispatched() if len(stage.offers) == 1 else None

    stage = Stage(at_the_end)
    async with running(stage, Bounds(idle_s=IDLE_S), monkeypatch) as work:

        async def has_offered_on() -> bool:
            return len(stage.offers) > 1

        await until(has_offered_on, "the launcher goes on beside its vm")
        done, _ = await asyncio.wait({work}, timeout=2 * IDLE_S)
        assert not done
        assert stage.offers[-1].wait_ms > IDLE_S * 1000
        assert stage.vms == {dispatched().dispatch: None}


async def test_idleness_counts_from_the_last_vms_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def one_item(offer: DispatchRequest) -> DispatchAnswer | None:
        if len(stage.offers) == 1:
            return dispatched()
        # A broker may answer earlier than it was asked to.
        await asyncio.sleep(min(0.05, offer.wait_ms / 1000))
        return None

    stage = Stage(one_item)
    clock = asyncio.get_running_loop().time
    async with running(stage, Bounds(idle_s=IDLE_S), monkeypatch) as work:
        assert not (await asyncio.wait({work}, timeout=2 * IDLE_S))[0]
        stage.let_go.set()
        ended_s = clock()
        assert await work is None
    assert clock() - ended_s >= IDLE_S
    assert stage.vms == {dispatched().dispatch: False}


async def test_a_node_that_backs_off_is_idle_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(nothing)
    with stage.standing.taken(dispatched()):
        stage.standing.ended(dispatched().dispatch, Outcome(FULL))
    assert stage.standing.health.state is HealthState.BACKING_OFF
    async with running(stage, Bounds(idle_s=IDLE_S), monkeypatch) as work:
        assert await work is None
    assert not stage.offers


async def test_a_broker_that_never_answers_keeps_no_idle_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    never = asyncio.Event()

    async def silence(_: DispatchRequest) -> None:
        await never.wait()

    monkeypatch.setattr(agent, "_LAST_ANSWER_S", 0.05)
    stage = Stage(silence)
    async with running(stage, Bounds(idle_s=IDLE_S), monkeypatch) as work:
        assert await work is None
        never.set()
    assert len(stage.offers) == 1


async def test_a_launcher_takes_as_many_items_as_it_may_and_lets_their_vms_finish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def always(_: DispatchRequest) -> DispatchAnswer:
        return dispatched(dispatch=f"vm-{len(stage.offers)}")

    stage = Stage(always)
    async with running(stage, Bounds(items=2), monkeypatch) as work:

        async def takes_no_more() -> bool:
            return stage.standing.health.state is HealthState.DRAINING

        await until(takes_no_more, "the launcher has enough")
        assert not work.done()
        assert "has taken 2 items" in stage.standing.health.sentence
        stage.let_go.set()
        assert await work is None
    assert len(stage.offers) == 2
    assert stage.vms == {"vm-1": False, "vm-2": False}


@pytest.mark.parametrize(("name", "value"), [("idle_s", 9), ("idle_s", 604_801), ("items", 0)])
def test_bounds_have_bounds(name: str, value: int) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings(**{name: value})


def test_without_a_word_a_launcher_stays() -> None:
    settings = read_settings()
    assert (settings.idle_s, settings.items) == (None, None)

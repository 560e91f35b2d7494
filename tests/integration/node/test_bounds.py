"""A launcher that ends by itself, beside a real broker: no item is given to one that is gone, and none is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker.client.dispatch import DispatchClient
from broker.client.session import Session
from broker.wire.dispatches import DispatchAnswer
from broker.wire.states import Accelerator, Verdict
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
from tests.integration.http.conftest import Parked
from tests.support.api import Api, add_stream
from tests.support.grid import Broker, Home, free_port
from tests.support.launching import short_folder

DONE = Ending(Verdict.COMPLETED, "the result was accepted")
LIMIT_S = 180


@asynccontextmanager
async def working(launcher: Api, bounds: Bounds, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """Run an agent to its own end, beside the block; its vms end at once. Yields the items that it got."""
    items: list[str] = []

    def vm(_node: Node, answer: DispatchAnswer, _note: object) -> Any:
        async def run(_drain: Drain) -> Outcome:
            items.append(answer.item)
            return Outcome(DONE)

        return SimpleNamespace(run=run)

    monkeypatch.setattr(agent, "VmRun", vm)
    slot = Slot(vms=4, vcpus=4, memory_mib=8_000, disk_mib=100_000, accelerator=Accelerator.TCG)
    async with Session(launcher.url, token=launcher.token) as session, asyncio.timeout(30):
        node = cast("Node", SimpleNamespace(name="l1", dispatches=DispatchClient(session)))
        about = About(name="l1", broker=launcher.url, node_name="node17", client="1.0")
        work = asyncio.create_task(Agent(node, Standing(slot), about, bounds).run(Drain()))
        yield items
        assert await work is None


async def test_an_idle_launchers_last_offer_is_over_when_it_ends(
    user: Api, launcher: Api, parked: Parked, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await add_stream(user)
    async with working(launcher, Bounds(idle_s=0.5), monkeypatch) as items:
        await parked(1)
    await parked(0)
    await user.ok("POST", f"{stream}/items", json=[{}])
    assert (await user.ok("GET", f"{stream}/items/1"))["state"] == "ready"
    assert not items


async def test_an_item_that_comes_while_the_last_offer_waits_is_taken(
    user: Api, launcher: Api, parked: Parked, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await add_stream(user)
    async with working(launcher, Bounds(idle_s=2), monkeypatch) as items:
        await parked(1)
        await user.ok("POST", f"{stream}/items", json=[{}])
    assert items == ["alice/render/1"]


async def test_a_launcher_that_took_its_last_item_leaves_the_next_one_to_others(
    user: Api, launcher: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}, {}, {}])
    async with working(launcher, Bounds(items=2), monkeypatch) as items:
        pass
    assert len(items) == 2
    assert (await user.ok("GET", f"{stream}/items/3"))["state"] == "ready"


@pytest.mark.timeout(LIMIT_S)
def test_an_idle_launchers_process_ends_by_itself_with_status_0_and_leaves_nothing() -> None:
    with short_folder("vmb-idle-") as folder:
        broker = Broker(Home(folder), free_port())
        with broker.serving():
            folders = ("--scratch", str(folder / "n"), "--cache", str(folder / "c"))
            said = broker.home.run("launcher", "run", "--idle-s", "10", *folders, timeout_s=LIMIT_S)
        assert said.status == 0, said.err
        assert "event=idle_ended idle_s=10" in said.err
        assert "event=launcher_stopped" in said.err
        assert list((folder / "n").iterdir()) == []

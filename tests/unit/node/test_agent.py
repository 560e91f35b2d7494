"""When a launcher takes a refusal of its offer for the broker's last word."""

import asyncio
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.client.dispatch import DispatchClient
from broker.client.session import Session
from broker.wire.problems import MEDIA_TYPE, ProblemCode, problem
from broker.wire.states import Accelerator, HealthState
from launcher.node import agent
from launcher.node.agent import Agent
from launcher.node.draining import Drain
from launcher.node.node import Node
from launcher.node.presence import About
from launcher.node.slot import Slot
from launcher.node.standing import Standing


async def test_only_the_brokers_own_refusal_ends_a_launcher_and_its_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "_PAUSE_AFTER_ERROR_S", 0.01)
    body = msgspec.json.encode(problem(ProblemCode.NOT_FOUND, "there is no such thing"))
    answers = [
        web.Response(status=404, text="a proxy whose broker starts anew"),
        web.Response(status=404, body=body, content_type=MEDIA_TYPE),
    ]

    async def answer(_: web.Request) -> web.Response:
        return answers.pop(0)

    app = web.Application()
    app.router.add_post("/v1/dispatch", answer)
    standing = Standing(Slot(vms=1, vcpus=1, memory_mib=1_000, disk_mib=100, accelerator=Accelerator.TCG))
    async with TestServer(app) as server, Session(str(server.make_url("/"))) as session:
        node = cast("Node", SimpleNamespace(name="l1", dispatches=DispatchClient(session)))
        about = About(name="l1", broker=session.base_url, node_name="node17", client="1.0")
        async with asyncio.timeout(10):
            refusal = await Agent(node, standing, about).run(Drain())

    assert not answers
    assert refusal is not None
    assert (standing.health.state, standing.room()) == (HealthState.DRAINING, None)
    assert "there is no such thing" in standing.health.sentence

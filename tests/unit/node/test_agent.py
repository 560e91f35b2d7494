"""When a launcher takes what becomes of its offer for the broker's last word."""

import asyncio
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.client.dispatch import DispatchClient
from broker.client.errors import Untrusted
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
from tests.support.tls_front import make_certificate


def idle() -> Standing:
    return Standing(Slot(vms=1, vcpus=1, memory_mib=1_000, disk_mib=100, accelerator=Accelerator.TCG))


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
    standing = idle()
    async with TestServer(app) as server, Session(str(server.make_url("/"))) as session:
        node = cast("Node", SimpleNamespace(name="l1", dispatches=DispatchClient(session)))
        about = About(name="l1", broker=session.base_url, node_name="node17", client="1.0")
        async with asyncio.timeout(10):
            refusal = await Agent(node, standing, about).run(Drain())

    assert not answers
    assert refusal is not None
    assert (standing.health.state, standing.room()) == (HealthState.DRAINING, None)
    assert "there is no such thing" in standing.health.sentence


async def test_a_broker_that_cannot_be_verified_ends_a_launcher_at_its_first_offer(tmp_path: Path) -> None:
    made = make_certificate(tmp_path, "nobody-knows")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)
    standing = idle()
    server = TestServer(web.Application(), scheme="https")
    await server.start_server(ssl=tls)
    try:
        async with Session(str(server.make_url("/"))) as session:
            node = cast("Node", SimpleNamespace(name="l1", dispatches=DispatchClient(session)))
            about = About(name="l1", broker=session.base_url, node_name="node17", client="1.0")
            async with asyncio.timeout(20):
                refusal = await Agent(node, standing, about).run(Drain())
    finally:
        await server.close()

    assert isinstance(refusal, Untrusted)
    assert "self-signed certificate" in str(refusal)
    assert standing.health.state is HealthState.DRAINING
    assert standing.health.sentence.startswith("the broker cannot be trusted: the TLS certificate of https://")


async def test_one_that_could_be_is_asked_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "_PAUSE_AFTER_ERROR_S", 0.0)
    monkeypatch.setattr(agent, "_UNTRUSTED_S", 1e9)
    offers: list[object] = []

    class Dispatches:
        """Answers the first offer, and shows a bad certificate from then on; time passes at the fourth."""

        async def dispatch(self, request: object) -> None:
            offers.append(request)
            if len(offers) == 4:
                asked._trusted_until_s = 0.0
            if len(offers) > 1:
                raise Untrusted("the certificate is bad")

    node = cast("Node", SimpleNamespace(name="l1", dispatches=Dispatches()))
    about = About(name="l1", broker="https://b", node_name="node17", client="1.0")
    asked = Agent(node, idle(), about)
    async with asyncio.timeout(20):
        refusal = await asked.run(Drain())

    assert (str(refusal), len(offers)) == ("the certificate is bad", 4)

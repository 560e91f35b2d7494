"""The client's only network is the launcher's proxy."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from broker.client.origins import Origin
from broker.wire.port import Welcome
from guest.exits import Exit
from guest.pipeline import work
from launcher.exchange.grants import Grant
from launcher.exchange.proxy import Proxy
from tests.integration.guest.edge import EdgeBroker, eventually, started_guest


@pytest.fixture
async def grant_url(broker: EdgeBroker) -> AsyncIterator[tuple[Grant, str]]:
    """Run a proxy that lets one vm reach the broker; gives its grant and its address on this side."""
    proxy = Proxy({Origin("127.0.0.1", broker.port)})
    grant = proxy.admit("vm", {Origin("127.0.0.1", broker.port)})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(proxy.serve(listener))
        yield grant, grant.proxy_url(listener.getsockname()[1]).replace("10.0.2.2", "127.0.0.1")
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def test_everything_goes_through_the_proxy(
    broker: EdgeBroker, grant_url: tuple[Grant, str], tmp_path: Path
) -> None:
    grant, url = grant_url
    broker.input_bytes = b"x" * 300_000
    broker.run = "sh -c 'cat \"$VMBROKER_INPUT\" >{output}/copy; echo $http_proxy'"
    async with started_guest(broker.url, tmp_path / "run", proxy=url) as guest:
        assert await guest.wait() == Exit.COMPLETED, guest.end.logs

    assert grant.bytes_in > 300_000 < grant.bytes_out
    assert broker.files == {"copy": broker.input_bytes}
    assert broker.completed is not None
    assert broker.completed.log.decode().strip() == url


async def test_a_host_that_the_item_may_not_reach_is_named(
    broker: EdgeBroker, grant_url: tuple[Grant, str], tmp_path: Path
) -> None:
    broker.input_bytes = b""
    broker.input_origin = "http://elsewhere.example"
    async with started_guest(broker.url, tmp_path / "run", proxy=grant_url[1]) as guest:
        assert await guest.wait() == Exit.ITEM_FAILED

    assert broker.failed is not None
    assert "elsewhere.example:80 is not among the hosts this item may reach" in broker.failed.sentence


async def test_a_broker_that_stays_away_behind_the_proxy_has_refused_nothing(
    broker: EdgeBroker, grant_url: tuple[Grant, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guest.pipeline.DELIVERY_LEAST_S", 0.5)
    begun, go_on = tmp_path / "begun", tmp_path / "go-on"
    broker.run = f"sh -c 'touch {begun}; while [ ! -e {go_on} ]; do sleep 0.05; done'"
    broker.run_ms = 3_000
    said: list[str] = []
    welcome = Welcome(
        ticket="vt1.a", broker=broker.url, now="2000-01-01T00:00:00Z", entropy=b"0" * 32, proxy=grant_url[1]
    )
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work(welcome, tmp_path / "run", "", said.append))
        await eventually(begun.exists)
        await broker.stop()
        await eventually(lambda: any("the broker is away, the work goes on: " in line for line in said))
        go_on.touch()

    assert working.result() == Exit.BROKER_AWAY
    assert said[-1].startswith("the result could not be delivered: ")
    assert " answered 502 " in said[-1]

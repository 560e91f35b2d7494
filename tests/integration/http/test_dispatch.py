import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from broker.app import running_broker
from broker.http import bells, passes, waiting
from broker.settings import load_settings
from tests.integration.http.conftest import Parked
from tests.support.api import Api, add_stream, offer


async def test_a_waiting_launcher_is_woken_by_a_push(user: Api, launcher: Api, parked: Parked) -> None:
    stream = await add_stream(user)
    waiting = asyncio.create_task(launcher.call("POST", "/v1/dispatch", json=offer(wait_ms=20_000)))
    await parked(1)

    await user.ok("POST", f"{stream}/items", json=[{}])

    async with asyncio.timeout(3):
        assert (await waiting).json["item"] == "alice/render/1"


async def test_one_item_wakes_one_launcher_the_first_that_came(user: Api, launcher: Api, parked: Parked) -> None:
    stream = await add_stream(user)
    waiting = []
    for number in range(3):
        body = offer(wait_ms=1_500, launcher=f"l{number}")
        waiting.append(asyncio.create_task(launcher.call("POST", "/v1/dispatch", json=body)))
        await parked(number + 1)

    await user.ok("POST", f"{stream}/items", json=[{}])

    answers = [await answer for answer in waiting]
    assert [answer.status for answer in answers] == [200, 204, 204]
    assert (await user.ok("GET", f"{stream}/items/1"))["vm"]["launcher"] == "local/l0"


async def test_who_does_not_fit_does_not_keep_the_item_from_who_does(user: Api, launcher: Api, parked: Parked) -> None:
    stream = await add_stream(user)
    small = asyncio.create_task(launcher.call("POST", "/v1/dispatch", json=offer(wait_ms=1_500, memory_mib=16)))
    await parked(1)
    large = asyncio.create_task(launcher.call("POST", "/v1/dispatch", json=offer(wait_ms=5_000)))
    await parked(2)

    await user.ok("POST", f"{stream}/items", json=[{}])

    assert (await large).status == 200
    assert (await small).status == 204


async def test_a_launcher_that_hung_up_is_not_given_the_item(user: Api, launcher: Api, parked: Parked) -> None:
    stream = await add_stream(user)
    await _hang_up_when_parked(launcher, parked)
    staying = asyncio.create_task(launcher.call("POST", "/v1/dispatch", json=offer(wait_ms=5_000, launcher="stays")))
    await parked(2)

    await user.ok("POST", f"{stream}/items", json=[{}])

    assert (await staying).json["item"] == "alice/render/1"
    view = await user.ok("GET", f"{stream}/items/1")
    assert (view["boots"], view["vm"]["launcher"]) == (1, "local/stays")


async def test_a_lost_bell_costs_a_slow_poll_and_no_item(
    user: Api, launcher: Api, parked: Parked, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await add_stream(user)
    monkeypatch.setattr(waiting.WaitingRoom, "ring", lambda *_: None)
    monkeypatch.setattr(waiting.WaitingRoom, "expect", lambda *_: False)
    monkeypatch.setattr(passes, "SLOW_POLL_S", 0.2)
    waiter = asyncio.create_task(launcher.call("POST", "/v1/dispatch", json=offer(wait_ms=20_000)))
    await parked(1)

    await user.ok("POST", f"{stream}/items", json=[{}])

    async with asyncio.timeout(bells.SLOW_POLL_S + 3):
        assert (await waiter).status == 200


async def test_a_stopping_broker_answers_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parked: Parked
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    settings = load_settings({"data": tmp_path / "data", "listen": "127.0.0.1:0", "user": "alice"})
    async with aiohttp.ClientSession() as http:
        async with running_broker(settings) as url:
            token = json.loads((tmp_path / "config/vmbroker/launcher.json").read_text())["token"]
            launcher = Api(http, url, token)
            waiter = asyncio.create_task(launcher.call("POST", "/v1/dispatch", json=offer(wait_ms=30_000)))
            await parked(1)

        async with asyncio.timeout(5):
            let_go = await waiter
        assert (let_go.status, let_go.headers["Connection"]) == (204, "close")


@pytest.mark.parametrize(
    "body",
    [
        {"dispatch_key": "short"},
        {"launcher": "no name!"},
        {"room": {"vcpus": 0, "memory_mib": 1, "disk_mib": 1, "accelerator": "tcg"}},
        {"room": {"vcpus": 1}},
    ],
)
async def test_an_offer_that_makes_no_sense_is_refused(launcher: Api, body: dict[str, object]) -> None:
    assert (await launcher.call("POST", "/v1/dispatch", json={**offer(), **body})).code == "bad_request"


async def test_a_field_of_a_newer_launcher_is_ignored(launcher: Api) -> None:
    body = {**offer(), "mood": "fine"}

    assert (await launcher.call("POST", "/v1/dispatch", json=body)).status == 204


async def _hang_up_when_parked(launcher: Api, parked: Parked) -> None:
    body = json.dumps(offer(wait_ms=20_000, launcher="leaves")).encode()
    head = (
        f"POST /v1/dispatch HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer {launcher.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    url = URL(launcher.url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(head.encode() + body)
    await writer.drain()
    await parked(1)
    writer.close()
    await writer.wait_closed()

"""What people are told of callbacks, and having one told once more. Whether it is delivered is no matter here."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from broker.domain.scopes import scopes_of_user
from broker.wire.callbacks import webhook_id
from tests.support.api import Api, add_stream

CALLBACK = {"url": "https://hooks.invalid/done", "secrets": ["hook"]}
KEY = b"whsec_" + base64.b64encode(b"k" * 32)
UNKNOWN = f"evt_{'0' * 32}"


async def _owed(user: Api, items: int) -> list[dict[str, Any]]:
    """Settle so many items of a stream whose server is told; return the events, in order."""
    body = {"kind": "webhook_key", "value": base64.b64encode(KEY).decode()}
    await user.ok("PUT", "/v1/secrets/alice/hook", json=body)
    stream = await add_stream(user, callback=CALLBACK)
    await user.ok("POST", f"{stream}/items", json=[{}] * items)
    for number in range(1, items + 1):
        await user.ok("POST", f"{stream}/items/{number}/cancel")
    answer = await user.call("GET", f"{stream}/events", headers={"Accept": "application/x-ndjson"})
    events = [json.loads(line) for line in answer.body.splitlines() if line]
    return [event for event in events if event["type"] == "org.vmbroker.item.cancelled"]


async def test_each_event_that_settles_an_item_is_listed_by_its_webhook_id(user: Api) -> None:
    events = await _owed(user, 3)
    shown: list[dict[str, Any]] = []
    query = "limit=2"
    while True:
        page = await user.ok("GET", f"/v1/callbacks?{query}")
        shown += page["callbacks"]
        if page.get("next_cursor") is None:
            break
        query = f"limit=2&cursor={page['next_cursor']}"
    assert page["counts"] == {"waiting": 3, "delivered": 0, "dead": 0, "dropped": 0}
    assert [(each["callback"], each["event"], each["type"], each["subject"]) for each in shown] == [
        (webhook_id(event["source"], event["id"]), event["id"], event["type"], event["subject"])
        for event in reversed(events)
    ]
    assert {(each["stream"], each["state"]) for each in shown} == {("alice/render", "waiting")}
    for state, count in (("waiting", 3), ("delivered", 0), ("dead", 0)):
        assert len((await user.ok("GET", f"/v1/callbacks?user=alice&state={state}"))["callbacks"]) == count


async def test_callback_is_replayed_by_its_owner_alone(user: Api, issue: Callable[..., str]) -> None:
    [event] = await _owed(user, 1)
    callback = webhook_id(event["source"], event["id"])
    replayed = await user.ok("POST", f"/v1/callbacks/{callback}/replay")
    assert (replayed["callback"], replayed["state"]) == (callback, "waiting")
    bob = user.bearing(issue("bob", scopes_of_user("bob")))
    reader = user.bearing(issue("alice", "queue.read:/alice"))
    assert (await bob.call("GET", "/v1/callbacks?user=alice")).code == "not_found"
    assert (await bob.ok("GET", "/v1/callbacks"))["callbacks"] == []
    assert (await bob.call("POST", f"/v1/callbacks/{callback}/replay")).code == "not_found"
    assert (await reader.call("POST", f"/v1/callbacks/{callback}/replay")).code == "forbidden"
    assert len((await reader.ok("GET", "/v1/callbacks"))["callbacks"]) == 1
    for unknown in (UNKNOWN, "evt_", "%00", "x" * 300):
        assert (await user.call("POST", f"/v1/callbacks/{unknown}/replay")).code == "not_found"


@pytest.mark.parametrize("query", ["state=gone", "cursor=soon", "limit=0", "limit=1001", "user=..", "order=1"])
async def test_query_that_cannot_be_meant_is_refused(user: Api, query: str) -> None:
    assert (await user.call("GET", f"/v1/callbacks?{query}")).code == "bad_request"

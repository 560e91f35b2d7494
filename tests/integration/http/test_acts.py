"""What a researcher does to items and streams, over HTTP: the store's own tests tell what becomes of them."""

import pytest

from tests.support.api import Api, add_stream, claim, offer
from tests.support.waiting import until


async def _bulk_ended(user: Api, stream: str) -> dict[str, object]:
    async def has_ended() -> bool:
        return "ended_at" in (await user.ok("GET", stream))["bulk"]

    await until(has_ended, "the act on the whole stream ended")
    bulk: dict[str, object] = (await user.ok("GET", stream))["bulk"]
    return bulk


async def test_an_item_is_held_with_a_reason_and_released(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{"priority": "high"}])

    held = await user.ok("POST", f"{stream}/items/1/hold", json={"reason": "a bad frame"})

    assert (held["state"], held["priority"]) == ("held", "high")
    assert held["reason"] == {"code": "held_by_user", "sentence": "alice held it: a bad frame"}
    assert (await launcher.call("POST", "/v1/dispatch", json=offer(wait_ms=0))).status == 204
    assert (await user.ok("POST", f"{stream}/items/1/release"))["state"] == "ready"
    await launcher.ok("POST", "/v1/dispatch", json=offer())
    refused = await user.call("POST", f"{stream}/items/1/hold")
    assert (refused.status, refused.code) == (409, "given_out")
    assert (await user.call("POST", f"{stream}/items/2/release")).code == "not_found"


async def test_a_paused_stream_says_why_and_gives_nothing_out(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])

    paused = await user.ok("POST", f"{stream}/pause", json={"reason": "the share is down"})

    assert paused["paused"] == {"code": "paused_by_user", "sentence": "alice paused it: the share is down"}
    assert (await launcher.call("POST", "/v1/dispatch", json=offer(wait_ms=0))).status == 204
    assert "paused" not in await user.ok("POST", f"{stream}/resume")
    await launcher.ok("POST", "/v1/dispatch", json=offer())


async def test_an_act_on_all_items_is_begun_at_once_and_tells_how_far_it_is(user: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}] * 3)

    begun = await user.call("POST", f"{stream}/hold", json={"states": ["ready"], "reason": "later"})

    assert begun.status == 202
    assert (begun.json["bulk"]["act"], begun.json["bulk"]["of"]) == ("hold", 3)
    assert (await _bulk_ended(user, stream))["acted"] == 3
    await user.ok("POST", f"{stream}/release")
    await _bulk_ended(user, stream)
    await user.ok("POST", f"{stream}/cancel")
    assert (await _bulk_ended(user, stream))["acted"] == 3
    assert (await user.ok("GET", stream))["counts"]["cancelled"] == 3


async def test_a_purged_stream_takes_nothing_in_and_is_gone_in_the_end(user: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}] * 3)

    begun = await user.call("DELETE", stream)

    assert (begun.status, begun.json["paused"]["code"]) == (202, "purging")
    for path in ("items", "resume"):
        refused = await user.call("POST", f"{stream}/{path}", json=[{}] if path == "items" else None)
        assert (refused.status, refused.code) == (409, "purging")

    async def is_gone() -> bool:
        return (await user.call("GET", stream)).status == 404

    await until(is_gone, "the stream is gone")
    assert (await user.ok("GET", "/v1/streams")) == []
    await user.ok("DELETE", "/v1/machines/alice/m")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("cancel", {"states": ["done"]}),
        ("hold", {"states": ["running"]}),
        ("release", {"rate": -1}),
        ("hold", {"reason": "x" * 501}),
        ("pause", {"reason": "two\nlines"}),
        ("hold", {"reasn": "typo"}),
    ],
)
async def test_what_cannot_be_meant_is_refused(user: Api, path: str, body: dict[str, object]) -> None:
    stream = await add_stream(user)
    refused = await user.call("POST", f"{stream}/{path}", json=body)
    assert (refused.status, refused.code) == (400, "bad_request")


async def test_several_items_come_in_one_answer_where_they_are_asked_for(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}] * 5)

    first = await launcher.ok("POST", "/v1/dispatch", json=offer(most=8))
    assert [each["item"] for each in first["dispatches"]] == ["alice/render/1", "alice/render/2"], "two canaries"
    await claim(launcher, first["dispatches"][1]["ticket"])
    second = await launcher.ok("POST", "/v1/dispatch", json=offer(most=8, vcpus=2))
    assert [each["item"] for each in second["dispatches"]] == ["alice/render/3", "alice/render/4"], "two have room"
    for most in (0, 65):
        assert (await launcher.call("POST", "/v1/dispatch", json=offer(most=most))).code == "bad_request"

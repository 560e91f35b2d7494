"""A user's share and bounds: seen by themselves, set by who runs the broker."""

from collections.abc import Callable

from broker.domain.scopes import scopes_of_user
from tests.support.api import Api, add_stream, digest_of


async def test_a_bound_is_set_seen_held_to_and_taken_back(user: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{"url": "https://h.example/1", "name": "one"}])

    set_ = await user.ok("PUT", "/v1/users/alice", json={"weight": 3, "most_items": 2, "most_streams": 1})

    assert set_ == await user.ok("GET", "/v1/users/alice")
    assert (set_["weight"], set_["items"], set_["most_items"]) == (3, 1, 2)
    assert (set_["bytes"], set_["streams"], set_["most_streams"]) == (22, 1, 1)
    refused = await user.call("POST", f"{stream}/items", json=[{}, {}])
    assert (refused.status, refused.code, refused.headers["Retry-After"]) == (429, "quota_exceeded", "60")
    assert "more than 2 items" in refused.json["detail"]
    another = await user.call("PUT", "/v1/streams/alice/second", json={"machine": "m", "run": "/opt/app/run"})
    assert another.code == "quota_exceeded"

    back = await user.ok("PUT", "/v1/users/alice", json={})

    assert (back["weight"], back["most_items"] > 1_000_000, back["items"]) == (1, True, 1)
    await user.ok("POST", f"{stream}/items", json=[{}, {}])


async def test_the_room_for_files_and_images_is_set_seen_and_held_to(user: Api) -> None:
    put = await user.ok("PUT", "/v1/users/alice", json={"most_file_bytes": 10_000, "most_image_bytes": 3})
    assert (put["most_file_bytes"], put["most_image_bytes"]) == (10_000, 3)
    await user.ok("PUT", "/v1/files/alice/kept", data=b"x" * 900)

    refused = await user.call("PUT", "/v1/files/alice/large", data=b"x" * 5_000)
    image = await user.call("PUT", f"/v1/images/{digest_of(b'four')}", data=b"four")

    for answer in (refused, image):
        assert (answer.status, answer.code, answer.headers["Retry-After"]) == (429, "quota_exceeded", "60")
    assert "alice's room for files is full" in refused.json["detail"]
    assert "alice's room for images is full" in image.json["detail"]
    view = await user.ok("GET", "/v1/users/alice")
    assert (view["file_bytes"], view["image_bytes"]) == (4_096 + 900, 0)
    await user.ok("PUT", f"/v1/images/{digest_of(b'two')}", data=b"two")
    assert (await user.ok("GET", "/v1/users/alice"))["image_bytes"] == 3


async def test_only_who_runs_the_broker_sets_and_sees_others(user: Api, issue: Callable[..., str]) -> None:
    bob = user.bearing(issue("bob", scopes_of_user("bob")))
    assert (await bob.ok("GET", "/v1/users/bob"))["items"] == 0
    assert (await user.ok("GET", "/v1/users/bob"))["user"] == "bob"
    assert (await bob.call("GET", "/v1/users/alice")).code == "not_found"
    assert (await bob.call("PUT", "/v1/users/bob", json={"weight": 9})).code == "forbidden"
    for wrong in ({"weight": 0}, {"weight": 1_001}, {"most_items": -1}, {"wieght": 2}):
        assert (await user.call("PUT", "/v1/users/bob", json=wrong)).code == "bad_request"


async def test_targets_are_to_be_where_the_operator_says(user: Api) -> None:
    stream = await add_stream(user)
    put = await user.ok("PUT", "/v1/users/alice", json={"targets": ["file:alice/results", "https://up.example/in"]})
    assert put["targets"] == ["file:alice/results", "https://up.example/in"]

    for to, status in (("file:{user}/{name}", 422), ("https://up.example/in/{name}", 200)):
        spec = {"machine": "m", "run": "x", "output": {"files": ["*"], "to": to}}
        answer = await user.call("PUT", stream, json=spec)
        assert answer.status == status, answer
        assert status == 200 or "below file:alice/results or https://up.example/in" in answer.json["detail"]

    assert "targets" not in await user.ok("PUT", "/v1/users/alice", json={})
    assert (await user.call("PUT", "/v1/users/alice", json={"targets": ["nowhere"]})).code == "bad_request"

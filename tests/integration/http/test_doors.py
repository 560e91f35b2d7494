from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.support.api import IMAGE, Api, add_stream, digest_of, offer

Issue = Callable[..., str]


@pytest.fixture
async def stream(user: Api) -> str:
    return await add_stream(user)


@pytest.mark.parametrize(
    ("subject", "scope", "method", "path", "code"),
    [
        ("alice", "queue.read:/alice", "GET", "", None),
        ("alice", "queue.read:/alice/render", "GET", "", None),
        ("alice", "queue.read:/", "GET", "", None),
        ("alice", "queue.read:/alice/rend", "GET", "", "not_found"),
        ("bob", "queue.read:/bob", "GET", "", "not_found"),
        ("bob", "queue.read:/bob queue.submit:/bob", "POST", "/items", "not_found"),
        ("alice", "queue.read:/alice", "POST", "/items", "forbidden"),
        ("local", "queue.dispatch:/", "GET", "", "forbidden"),
        ("alice", "", "GET", "", "forbidden"),
        ("alice", "queue.submit:/alice", "PUT", "", "forbidden"),
    ],
)
async def test_a_token_allows_what_its_scopes_cover_and_nothing_else(
    user: Api, issue: Issue, stream: str, subject: str, scope: str, method: str, path: str, code: str | None
) -> None:
    bearer = user.bearing(issue(subject, scope))

    answer = await bearer.call(method, f"{stream}{path}", json=[{}] if method == "POST" else None)

    assert (answer.code if code else answer.status) == (code or 200)


async def test_no_token_a_wrong_one_and_an_expired_one_are_told_what_to_do(
    user: Api, issue: Issue, stream: str
) -> None:
    assert user.token is not None
    changed = user.token[:-3] + ("abc" if not user.token.endswith("abc") else "xyz")
    expired = issue("alice", "queue.read:/alice", timedelta(seconds=0))
    sentences = {
        None: "carries no token",
        "garbage": "did not issue it",
        changed: "did not issue it",
        expired: "expired",
    }
    for token, sentence in sentences.items():
        answer = await user.bearing(token).call("GET", stream)
        assert (answer.status, answer.code) == (401, "unauthenticated")
        assert sentence in answer.json["detail"]
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_who_may_not_read_cannot_tell_what_exists(user: Api, issue: Issue, stream: str) -> None:
    bob = user.bearing(issue("bob", "queue.read:/bob"))

    existing, missing = await bob.call("GET", stream), await bob.call("GET", "/v1/streams/alice/nothing")

    assert existing.code == missing.code == "not_found"
    assert existing.json["detail"].replace("render", "nothing") == missing.json["detail"]


async def test_a_dispatch_belongs_to_the_token_that_took_it(
    user: Api, launcher: Api, issue: Issue, stream: str
) -> None:
    await user.ok("POST", f"{stream}/items", json=[{}])
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    other = launcher.bearing(issue("other", "queue.dispatch:/"))
    for act, body in {
        "extend": {},
        "events": {"phase": "preparing"},
        "end": {"verdict": "drained", "sentence": ""},
    }.items():
        path = f"/v1/dispatches/{dispatched['dispatch']}/{act}"
        answer = await other.call("POST", path, json={"launcher": "l1", **body})
        assert answer.code == "not_found", act
    path = f"/v1/dispatches/{dispatched['dispatch']}/extend"
    assert (await launcher.call("POST", path, json={"launcher": "l1"})).status == 200


async def test_another_launcher_with_the_same_key_does_not_get_the_dispatch(
    user: Api, launcher: Api, issue: Issue, stream: str
) -> None:
    await user.ok("POST", f"{stream}/items", json=[{}])
    mine = await launcher.ok("POST", "/v1/dispatch", json=offer(key="k" * 20))
    other = launcher.bearing(issue("other", "queue.dispatch:/"))

    assert (await other.call("POST", "/v1/dispatch", json=offer(key="k" * 20))).status == 204
    again = await launcher.ok("POST", "/v1/dispatch", json=offer(key="k" * 20))
    assert (again["dispatch"], again["ticket"]) == (mine["dispatch"], mine["ticket"])


async def test_a_launcher_serves_only_the_users_its_token_names(
    user: Api, launcher: Api, issue: Issue, stream: str
) -> None:
    await user.ok("POST", f"{stream}/items", json=[{}])
    of_bob = launcher.bearing(issue("bobs", "queue.dispatch:/bob"))
    of_alice = launcher.bearing(issue("alices", "queue.dispatch:/alice"))

    assert (await of_bob.call("POST", "/v1/dispatch", json=offer())).status == 204
    assert (await of_alice.call("POST", "/v1/dispatch", json=offer())).status == 200


async def test_a_signed_address_is_good_for_one_object_and_one_method(user: Api, launcher: Api, stream: str) -> None:
    await user.ok("POST", f"{stream}/items", json=[{}])
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    url = dispatched["disks"]["vda"]["url"]
    nobody = launcher.bearing(None)

    assert (await nobody.call("GET", url)).body == IMAGE
    assert (await nobody.call("GET", url, headers={"Range": "bytes=4-8"})).body == IMAGE[4:9]
    other_digest = digest_of(b"another image")
    for changed in (
        url.replace(digest_of(IMAGE), other_digest),
        url.replace("expires=", "expires=9"),
        url.replace("&signature=", "&signature=x"),
    ):
        assert (await nobody.call("GET", changed)).code == "forbidden"
    assert (await nobody.call("HEAD", url)).status == 403


async def test_an_image_is_nobodys_who_only_knows_its_digest(user: Api, issue: Issue, stream: str) -> None:
    bob = user.bearing(issue("bob", "queue.read:/bob queue.modify:/bob"))
    path = f"/v1/images/{digest_of(IMAGE)}"
    assert (await bob.call("GET", path)).code == "not_found"
    assert (await bob.call("HEAD", path)).status == 404

    assert (await bob.call("PUT", path, data=b"a guess")).code == "digest_mismatch"
    assert (await bob.call("HEAD", path)).status == 404
    await bob.ok("PUT", path, data=IMAGE)

    assert (await bob.call("GET", path)).body == IMAGE
    assert (await bob.call("HEAD", path)).status == 200


async def test_whoami_tells_name_scopes_and_end(user: Api) -> None:
    who = await user.ok("GET", "/v1/whoami")

    assert who["user"] == "alice"
    assert "queue.submit:/alice" in who["scopes"]
    assert who["expires_at"].endswith("Z")

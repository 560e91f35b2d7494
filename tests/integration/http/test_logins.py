"""Logging in and out, and the tokens that people and sites are given."""

import asyncio
import base64
import json
import secrets
import urllib.error
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from broker.auth.rotation import rotate
from tests.integration.http.conftest import Parked
from tests.support.api import Answer, Api, add_stream, offer
from tests.support.grid import Broker, Home, free_port
from tests.support.waiting import until, wait_until

KEY = base64.b64encode(b"k" * 32).decode()
OTHER_KEY = base64.b64encode(b"o" * 32).decode()


async def code_of(operator: Api, name: str = "bob", **more: Any) -> str:
    return str((await operator.ok("POST", f"/v1/users/{name}/codes", json=more))["code"])


async def log_in(api: Api, code: str, key: str = KEY, **more: Any) -> Answer:
    return await api.bearing(None).call("POST", "/v1/login", json={"code": code, "login_key": key, **more})


async def whoami(api: Api, token: str) -> Answer:
    return await api.bearing(token).call("GET", "/v1/whoami")


async def test_a_code_buys_one_login_whose_tokens_speak_for_the_user(user: Api) -> None:
    given = (await log_in(user, await code_of(user), name="bob's desk")).json

    me = (await whoami(user, given["token"])).json
    assert me["user"] == given["user"] == "bob"
    assert "queue.submit:/bob" in me["scopes"]
    assert not any("admin" in scope for scope in me["scopes"])
    renewed = await user.bearing(given["login"]).ok("POST", "/v1/login/token")
    assert (await whoami(user, renewed["token"])).json["user"] == "bob"
    [listed] = (await user.bearing(given["token"]).ok("GET", "/v1/tokens"))["tokens"]
    assert (listed["kind"], listed["name"], listed["id"]) == ("login", "bob's desk", given["login_id"])


async def test_a_code_is_read_however_it_was_typed(user: Api) -> None:
    code = await code_of(user)
    typed = f"  {code.lower().replace('-', ' ')} "

    assert (await log_in(user, typed)).status == 200


async def test_a_repeated_login_is_answered_the_same_and_another_one_ends_both(user: Api) -> None:
    code = await code_of(user)
    first, again = (await log_in(user, code)).json, (await log_in(user, code)).json
    assert again["login"] == first["login"]

    stolen = await log_in(user, code, OTHER_KEY)
    assert (stolen.status, stolen.code) == (409, "code_spent")
    for token in (first["token"], again["token"]):
        assert (await whoami(user, token)).code == "unauthenticated"
    assert (await user.bearing(first["login"]).call("POST", "/v1/login/token")).code == "unauthenticated"
    assert (await log_in(user, code)).code == "unauthenticated"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"code": "AAAAA-AAAAA-AAAAA-AAAAA-AAAAA", "login_key": KEY}, "unauthenticated"),
        ({"code": "AAAAA", "login_key": KEY}, "bad_request"),
        ({"code": "A" * 50_000, "login_key": KEY}, "bad_request"),
        ({"code": "A" * 100_000, "login_key": KEY}, "too_large"),
        ({"code": "AAAAA-AAAAA-AAAAA-AAAAA-AAAAA", "login_key": "short"}, "bad_request"),
        ({"login_key": KEY}, "bad_request"),
        ({"code": "AAAAA-AAAAA-AAAAA-AAAAA-AAAAA", "login_key": KEY, "users": "alice"}, "bad_request"),
    ],
)
async def test_what_is_no_code_buys_nothing(user: Api, body: dict[str, str], code: str) -> None:
    assert (await user.bearing(None).call("POST", "/v1/login", json=body)).code == code


async def test_a_code_that_is_over_buys_nothing(user: Api) -> None:
    code = await code_of(user, life_s=1)

    async def is_over() -> bool:
        # Each try is another person's: one that got in would be told that the code is spent.
        return (await log_in(user, code, base64.b64encode(secrets.token_bytes(32)).decode())).status == 401

    await until(is_over, "the code is over")
    assert (await user.call("POST", "/v1/users/bob/codes", json={"life_s": 8 * 86_400})).code == "bad_request"


async def test_only_an_operator_lets_users_in_and_an_operator_may_be_let_in(user: Api) -> None:
    bob = (await log_in(user, await code_of(user))).json["token"]
    assert (await user.bearing(bob).call("POST", "/v1/users/carol/codes", json={})).code == "forbidden"

    carol = (await log_in(user, await code_of(user, "carol", is_operator=True), OTHER_KEY)).json["token"]
    assert (await user.bearing(carol).call("POST", "/v1/users/dave/codes", json={})).status == 200


async def test_a_made_token_is_within_its_maker(user: Api) -> None:
    login = (await log_in(user, await code_of(user))).json["login"]
    maker = user.bearing(login)

    wanted = {"scopes": ["queue.submit:/bob/render", "queue.read:/bob"], "life_s": 3_600, "name": "cron"}
    made = await maker.ok("POST", "/v1/tokens", json=wanted)
    narrow = user.bearing(made["token"])
    assert (await narrow.ok("GET", "/v1/whoami"))["scopes"] == ["queue.read:/bob", "queue.submit:/bob/render"]
    refusals = {
        "queue.cancel:/bob": "forbidden",
        "queue.read:/": "forbidden",
        "queue.read:/bobby": "forbidden",
        "queue.read:/bob/../alice": "bad_request",
        "queue.fly:/bob": "bad_request",
    }
    for scope, code in refusals.items():
        assert (await narrow.call("POST", "/v1/tokens", json={"scopes": [scope]})).code == code, scope
    for life_s in (0, 3_700, 10**12):
        assert (await narrow.call("POST", "/v1/tokens", json={"life_s": life_s})).code == "bad_request"
    assert (await narrow.call("POST", "/v1/tokens", json={"launcher": "l1"})).code == "forbidden"
    again = await narrow.ok("POST", "/v1/tokens", json={})
    assert (again["ends_at"], again["scopes"]) == (made["ends_at"], made["scopes"])


async def test_tokens_are_made_of_tokens_a_bounded_number_of_times(user: Api) -> None:
    token, made = user.token, 0
    while (answer := await user.bearing(token).call("POST", "/v1/tokens", json={})).status == 200:
        token, made = answer.json["token"], made + 1
        assert made < 20
    assert answer.code == "forbidden"


async def test_a_revoked_token_is_refused_with_those_made_with_it_and_others_are_not(user: Api) -> None:
    login = (await log_in(user, await code_of(user))).json
    first = await user.bearing(login["login"]).ok("POST", "/v1/tokens", json={})
    second = await user.bearing(first["token"]).ok("POST", "/v1/tokens", json={})
    bob = user.bearing(login["token"])

    assert await bob.ok("DELETE", f"/v1/tokens/{first['id']}") == {"revoked": 2}
    for token in (first["token"], second["token"]):
        assert (await whoami(user, token)).code == "unauthenticated"
    assert [view["id"] for view in (await bob.ok("GET", "/v1/tokens"))["tokens"]] == [login["login_id"]]
    assert (await bob.call("DELETE", f"/v1/tokens/{first['id']}")).code == "not_found"


async def test_a_token_may_end_itself_and_nobody_elses(user: Api, issue: Callable[..., str]) -> None:
    login = (await log_in(user, await code_of(user))).json
    eve = user.bearing(issue("eve", "queue.read:/eve queue.modify:/eve"))
    assert (await eve.call("DELETE", f"/v1/tokens/{login['login_id']}")).code == "not_found"
    assert (await eve.call("GET", "/v1/tokens?user=bob")).code == "not_found"
    assert (await eve.call("GET", "/v1/tokens?site=renci")).code == "forbidden"

    reader = await user.bearing(login["login"]).ok("POST", "/v1/tokens", json={"scopes": ["queue.read:/bob"]})
    assert (await user.bearing(reader["token"]).call("DELETE", f"/v1/tokens/{login['login_id']}")).code == "forbidden"
    assert await user.bearing(reader["token"]).ok("DELETE", f"/v1/tokens/{reader['id']}") == {"revoked": 1}
    assert (await whoami(user, reader["token"])).code == "unauthenticated"
    assert (await whoami(user, login["token"])).status == 200


async def test_an_operator_logs_a_user_out_everywhere(user: Api) -> None:
    desk = (await log_in(user, await code_of(user))).json
    laptop = (await log_in(user, await code_of(user), OTHER_KEY)).json

    assert await user.ok("DELETE", "/v1/users/bob/tokens") == {"revoked": 2}
    for login in (desk, laptop):
        assert (await whoami(user, login["token"])).code == "unauthenticated"


async def test_an_operator_revokes_a_token_that_is_not_listed(user: Api, issue: Callable[..., str]) -> None:
    token = issue("bob", "queue.read:/bob")
    token_id = jti(token)

    assert await user.ok("DELETE", f"/v1/tokens/{token_id}") == {"revoked": 1}
    assert (await whoami(user, token)).code == "unauthenticated"


async def test_a_sites_token_serves_whom_it_may_and_ends_with_the_site(user: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}, {}])
    wanted = {"users": ["bob"], "labels": ["trusted"], "most_dispatches": 3, "name": "winter"}
    of_bob = await user.ok("POST", "/v1/sites/renci/tokens", json=wanted)
    of_all = await user.ok("POST", "/v1/sites/renci/tokens", json={})

    assert of_bob["scopes"] == ["queue.dispatch:/bob"]
    assert (await user.bearing(of_bob["token"]).call("POST", "/v1/dispatch", json=offer())).status == 204
    assert (await user.bearing(of_all["token"]).call("POST", "/v1/dispatch", json=offer())).status == 200
    [listed] = [view for view in (await user.ok("GET", "/v1/sites"))["tokens"] if view["name"] == "winter"]
    assert (listed["labels"], listed["most_dispatches"]) == (["trusted"], 3)
    assert len((await user.bearing(of_all["token"]).ok("GET", "/v1/tokens"))["tokens"]) == 2
    assert await user.ok("DELETE", "/v1/sites/renci") == {"revoked": 2}
    assert (await user.bearing(of_all["token"]).call("POST", "/v1/dispatch", json=offer())).code == "unauthenticated"
    assert (await user.ok("GET", "/v1/sites"))["tokens"] == []


async def test_a_token_that_is_bound_to_a_launcher_speaks_as_no_other(user: Api) -> None:
    site = await user.ok("POST", "/v1/sites/renci/tokens", json={})
    bound = await user.bearing(site["token"]).ok("POST", "/v1/tokens", json={"launcher": "l1"})
    launcher = user.bearing(bound["token"])

    assert (await launcher.call("POST", "/v1/dispatch", json=offer(launcher="l1"))).status == 204
    assert (await launcher.call("POST", "/v1/dispatch", json=offer(launcher="l2"))).code == "forbidden"
    assert (await launcher.call("POST", "/v1/tokens", json={"launcher": "l2"})).code == "forbidden"
    assert (await launcher.ok("POST", "/v1/tokens", json={}))["scopes"] == ["queue.dispatch:/"]


@pytest.mark.parametrize(
    "body",
    [
        {"users": ["a b"]},
        {"labels": ["a b"]},
        {"labels": ["site=renci"]},
        {"labels": ["x"] * 33},
        {"most_dispatches": 0},
        {"life_s": 367 * 86_400},
        {"launcher": "../x"},
    ],
)
async def test_a_site_is_given_nothing_that_is_out_of_bounds(user: Api, body: dict[str, Any]) -> None:
    assert (await user.call("POST", "/v1/sites/renci/tokens", json=body)).code == "bad_request"


async def test_the_broker_is_an_issuer_that_can_be_found(user: Api) -> None:
    found = await user.bearing(None).ok("GET", "/.well-known/openid-configuration")
    assert found == await user.bearing(None).ok("GET", "/.well-known/oauth-authorization-server")
    keys = await user.bearing(None).ok("GET", found["jwks_uri"])
    assert [set(key) >= {"kty", "crv", "x", "y", "kid", "alg", "use"} for key in keys["keys"]] == [True]
    assert not any("d" in key for key in keys["keys"])


async def test_a_rotated_key_is_published_at_once_and_old_tokens_stay_good(user: Api, tmp_path: Path) -> None:
    before = await user.bearing(None).ok("GET", "/.well-known/jwks.json")
    rotate(tmp_path / "data/keys", at_once=True, now_s=1_000_000_000)

    after = await user.bearing(None).ok("GET", "/.well-known/jwks.json")
    assert len(after["keys"]) == 2
    assert before["keys"][0] in after["keys"]
    new = (await log_in(user, await code_of(user))).json
    assert header(new["token"])["kid"] != before["keys"][0]["kid"]
    assert (await whoami(user, new["token"])).status == 200
    assert (await user.call("GET", "/v1/whoami")).status == 200


async def test_a_login_outlives_the_broker(start: Callable[[], AbstractAsyncContextManager[tuple[Api, Api]]]) -> None:
    async with start() as (user, _):
        login = (await log_in(user, await code_of(user))).json
        revoked = (await log_in(user, await code_of(user), OTHER_KEY)).json
        await user.bearing(revoked["login"]).call("DELETE", "/v1/login")
    async with start() as (user, _):
        renewed = await user.bearing(login["login"]).ok("POST", "/v1/login/token")
        assert (await whoami(user, renewed["token"])).status == 200
        assert (await whoami(user, login["token"])).status == 200
        assert (await whoami(user, revoked["token"])).code == "unauthenticated"


def jti(token: str) -> str:
    return str(_part(token, 1)["jti"])


def header(token: str) -> dict[str, Any]:
    return _part(token, 0)


def _part(token: str, place: int) -> dict[str, Any]:
    part = token.split(".")[place]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


async def test_a_follower_is_let_go_when_its_token_is_revoked(user: Api) -> None:
    stream = await add_stream(user)
    made = await user.ok("POST", "/v1/tokens", json={})
    async with user.bearing(made["token"]).stream(f"{stream}/events") as answer:
        assert (await answer.content.readline()).startswith(b"retry:")
        await user.ok("DELETE", f"/v1/tokens/{made['id']}")
        await answer.content.read()  # to its end, which a stream of a good token has not


async def test_a_launcher_that_waits_is_given_nothing_after_its_token_was_revoked(user: Api, parked: Parked) -> None:
    stream = await add_stream(user)
    site = await user.ok("POST", "/v1/sites/renci/tokens", json={})
    launcher = user.bearing(site["token"])
    waiting = asyncio.create_task(launcher.call("POST", "/v1/dispatch", json=offer(wait_ms=30_000)))
    await parked(1)
    await user.ok("DELETE", f"/v1/tokens/{site['id']}")
    await user.ok("POST", f"{stream}/items", json=[{}])

    assert (await waiting).status == 204
    assert (await user.ok("GET", stream))["counts"]["ready"] == 1


async def test_every_process_refuses_what_was_revoked_in_another_one(tmp_path: Path) -> None:
    broker = Broker(Home(tmp_path), free_port(), ("--workers", "2"))
    with broker.serving():
        made = broker.call("POST", "/v1/tokens", {}, broker.token())
        accepted = [ask_anew(broker, made["token"]) for _ in range(20)]
        assert set(accepted) == {200}
        broker.call("DELETE", f"/v1/tokens/{made['id']}", token=broker.token())

        def is_known_to_all() -> bool:
            # Each on a connection of its own, which the kernel gives to either process.
            return {ask_anew(broker, made["token"]) for _ in range(20)} == {401}

        wait_until(is_known_to_all, "both processes know", timeout_s=20)


def ask_anew(broker: Broker, token: str) -> int:
    try:
        broker.call("GET", "/v1/whoami", token=token)
    except urllib.error.HTTPError as error:
        return error.code
    return 200

"""Who may do what: every route, asked by every kind of caller, refused or let in exactly as the table says.

What is looked at is the door: a caller that is let in may still be answered that a body or a name is wrong.
"""

import base64
import hmac
import json
import secrets
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from broker.auth.keys import BrokerKeys, load_keys
from broker.auth.tokens import ALGORITHM, TYPE
from broker.domain.scopes import OF_A_USER, Authority
from broker.http.doors import Proof
from broker.http.route import Route
from broker.http.routes import DAV, ROUTES
from docs.generator.access import LET_IN, SCOPES, Caller, door_of
from tests.support.api import Answer, Api, add_stream, claim, offer

Issue = Callable[..., str]
NAMES = {
    "user": "alice",
    "job": "render",
    "name": "m",
    "reader": "carol",
    "number": "1",
    "digest": f"sha256:{'0' * 64}",
    "upload": "0" * 32,
    "callback": f"evt_{'0' * 32}",
    "path:.+": "a/b",
    "folder:.+": "a",
    "site": "renci",
    "token": "00000000-0000-4000-8000-000000000001",
    "dispatch": "00000000-0000-4000-8000-000000000000",
}
GOOD_BODIES: dict[str, dict[str, Any]] = {
    "urls": {"outputs": []},
    "complete": {"outputs": []},
    "fail": {"code": "program_failed", "sentence": "it failed"},
}
BY_TOKEN = [route for route in (*ROUTES, *DAV) if route.proof in {Proof.TOKEN, Proof.TOKEN_OR_SIGNATURE}]
BY_LOGIN = [route for route in ROUTES if route.proof in {Proof.LOGIN, Proof.TOKEN_OR_LOGIN}]
IN_THE_BODY = {Proof.TICKET, Proof.CODE}
OF_PEOPLE = [route for route in BY_TOKEN if route.authority not in {None, Authority.DISPATCH}]
OF_LAUNCHERS = [route for route in BY_TOKEN if route.authority is Authority.DISPATCH]
OF_GUESTS = [route for route in ROUTES if route.proof is Proof.LEASE]
OVER_A_NAME = [route for route in OF_PEOPLE if "user" in route.over]


def is_revoking(route: Route) -> bool:
    """Tell whether a route may put an end to the token that is shown there."""
    return route.method == "DELETE" and "token" in route.path


async def logged_in(operator: Api, user: str) -> tuple[str, str]:
    """Return the login and the token that a one-time code buys."""
    given = await operator.ok("POST", f"/v1/users/{user}/codes", json={})
    login_key = base64.b64encode(secrets.token_bytes(32)).decode()
    answer = await operator.bearing(None).ok("POST", "/v1/login", json={"code": given["code"], "login_key": login_key})
    return answer["login"], answer["token"]


def path_of(route: Route) -> str:
    path = route.path
    for name, value in NAMES.items():
        path = path.replace(f"{{{name}}}", value)
    assert "{" not in path, path
    return path


async def ask(api: Api, route: Route, token: str | None) -> Answer:
    has_body = route.method in {"POST", "PUT", "PATCH"}
    # Lines end where the log ends; server-sent events would go on.
    return await api.bearing(token).call(
        route.method, path_of(route), data=b"{}" if has_body else None, headers={"Accept": "application/x-ndjson"}
    )


def refusal(route: Route, answer: Answer) -> str | None:
    """Return how the door refused; None when the caller was let in."""
    if route.method == "HEAD":
        # It has no body to tell more.
        return {401: "unauthenticated", 403: "forbidden", 404: "not_found"}.get(answer.status)
    if answer.status not in {401, 403, 404}:
        return None
    if answer.code == "not_found" and "may not see it" not in answer.json["detail"]:
        return None
    return answer.code


async def refused(api: Api, routes: list[Route], token: str | None, code: str | None) -> dict[str, str | None]:
    """Return those routes that did not refuse with `code`, or let in where it is None, and what they did."""
    found = {}
    for route in routes:
        told = refusal(route, await ask(api, route, token))
        is_good = told == code or (code is None and route.method == "HEAD" and told == "not_found")
        if not is_good:
            found[f"{route.method} {route.path}"] = told
    return found


@pytest.fixture
def keys(grid: tuple[Api, Api], tmp_path: Path) -> BrokerKeys:
    assert grid
    return load_keys(tmp_path / "data" / "keys")


def claims_of(keys: BrokerKeys, token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, keys.verifying, algorithms=[ALGORITHM]).claims)


def signed(claims: dict[str, Any], by: ECKey, named: ECKey, **header: str) -> str:
    """Sign claims by one key, under the name of another or the same."""
    head = {"alg": ALGORITHM, "typ": TYPE, "kid": named.kid, **header}
    return jwt.encode(head, claims, by, algorithms=[ALGORITHM])


def forgeries(keys: BrokerKeys, good: str) -> dict[str, str]:
    """Return tokens that say what a good one says, and that the broker must not believe."""
    claims, own = claims_of(keys, good), keys.signing
    head, body, signature = good.split(".")
    none = part({"alg": "none", "typ": TYPE, "kid": own.kid})
    by_hmac = f"{part({'alg': 'HS256', 'typ': TYPE, 'kid': own.kid})}.{body}"
    # The library refuses to sign like this; whoever attacks does not ask it.
    hmac_signature = encoded(hmac.digest(own.as_pem(private=False), by_hmac.encode(), "sha256"))
    without = {name: {key: value for key, value in claims.items() if key != name} for name in ("aud", "exp")}
    return {
        "another audience": signed({**claims, "aud": "urn:uuid:somebody-else"}, own, own),
        "no audience": signed(without["aud"], own, own),
        "another issuer": signed({**claims, "iss": "https://issuer.example"}, own, own),
        "another broker's key under this one's name": signed(claims, ECKey.generate_key("P-256"), own),
        "another kind of token": signed(claims, own, own, typ="JWT"),
        "not yet": signed({**claims, "nbf": claims["exp"] - 1}, own, own),
        "no end": signed(without["exp"], own, own),
        "alg none": f"{none}.{body}.",
        "alg none, with the old signature": f"{none}.{body}.{signature}",
        "HS256 with the public key": f"{by_hmac}.{hmac_signature}",
        "a scope more": f"{head}.{part({**claims, 'scope': 'queue.admin:/'})}.{signature}",
        "cut off": good[:-4],
        "no token at all": "garbage",
    }


def part(content: dict[str, Any]) -> str:
    return encoded(json.dumps(content).encode())


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


async def test_nobody_is_let_in_anywhere_but_where_nothing_is_asked_for(user: Api) -> None:
    nothing = [route for route in ROUTES if route.proof is Proof.NOTHING]
    assert await refused(user, nothing, None, None) == {}
    assert await refused(user, [*BY_TOKEN, *BY_LOGIN, *OF_GUESTS], None, "unauthenticated") == {}


async def test_no_forged_expired_or_foreign_token_opens_anything(user: Api, issue: Issue, keys: BrokerKeys) -> None:
    every = " ".join(f"{authority}:/" for authority in Authority)
    good = issue("alice", every)
    assert await refused(user, [route for route in BY_TOKEN if not is_revoking(route)], good, None) == {}
    opened = [*BY_TOKEN, *BY_LOGIN]
    for name, forged in forgeries(keys, good).items():
        assert await refused(user, opened, forged, "unauthenticated") == {}, name
    assert await refused(user, opened, issue("alice", every, timedelta(0)), "unauthenticated") == {}


async def test_what_was_revoked_opens_nothing_nor_does_what_was_made_with_it(user: Api) -> None:
    login, token = await logged_in(user, "alice")
    made = (await user.bearing(login).ok("POST", "/v1/tokens", json={}))["token"]
    last = (await user.bearing(made).ok("POST", "/v1/tokens", json={}))["token"]
    opened = [route for route in OVER_A_NAME if route.method == "GET"]
    assert await refused(user, opened, last, None) == {}
    assert (await user.bearing(login).call("DELETE", "/v1/login")).status == 204
    for revoked in (login, token, made, last):
        assert await refused(user, [*BY_TOKEN, *BY_LOGIN], revoked, "unauthenticated") == {}


async def test_a_login_opens_nothing_but_what_makes_tokens_of_it(user: Api) -> None:
    login, token = await logged_in(user, "alice")
    assert await refused(user, [*BY_TOKEN, *OF_GUESTS], login, "unauthenticated") == {}
    assert await refused(user, [route for route in BY_LOGIN if route.method == "POST"], login, None) == {}
    of_logins_alone = [route for route in BY_LOGIN if route.proof is Proof.LOGIN]
    for other in (token, f"{login[:-1]}{'A' if login[-1] != 'A' else 'B'}", login.replace("vr1.", "vt1."), "vr1.x.y.z"):
        assert await refused(user, of_logins_alone, other, "unauthenticated") == {}


@pytest.mark.parametrize("caller", [Caller.NOBODY, *SCOPES])
async def test_the_page_says_how_each_door_answers(user: Api, issue: Issue, caller: Caller) -> None:
    token = issue(*SCOPES[caller]) if caller in SCOPES else None
    for status, code in {LET_IN: None, 401: "unauthenticated", 403: "forbidden", 404: "not_found"}.items():
        routes = [route for route in ROUTES if route.proof not in IN_THE_BODY and door_of(route, caller) == status]
        if code is None:
            # Where a token is all that the table asks for, the handler shows what its scopes reach.
            routes = [route for route in routes if route.authority is not None or route.proof is Proof.NOTHING]
        assert await refused(user, routes, token, code) == {}, caller


async def test_each_route_opens_for_its_own_authority_and_no_other(user: Api, issue: Issue) -> None:
    for authority in OF_A_USER:
        token = issue("alice", f"{authority}:/alice")
        own = [route for route in OF_PEOPLE if route.authority is authority]
        others = [route for route in OF_PEOPLE if route.authority is not authority]
        # What a stream's spec may name is asked for by the handler, beside the right to change the stream.
        assert own or authority is Authority.SECRET_USE
        assert await refused(user, own, token, None) == {}, authority
        assert await refused(user, others, token, "forbidden") == {}, authority
        assert await refused(user, OF_LAUNCHERS, token, "forbidden") == {}, authority


async def test_another_user_is_told_nothing_of_what_exists(user: Api, issue: Issue) -> None:
    everything_of_bobs = " ".join(f"{authority}:/bob" for authority in OF_A_USER)
    over_alices = [route for route in OVER_A_NAME if route.authority is not Authority.ADMIN]
    assert await refused(user, over_alices, issue("bob", everything_of_bobs), "not_found") == {}
    beside = " ".join(f"{authority}:/alice2" for authority in OF_A_USER)
    assert await refused(user, over_alices, issue("alice2", beside), "not_found") == {}
    admins = [route for route in OVER_A_NAME if route.authority is Authority.ADMIN]
    assert await refused(user, admins, issue("bob", everything_of_bobs), "forbidden") == {}


async def test_a_launchers_token_opens_what_is_launchers_alone(user: Api, launcher: Api) -> None:
    assert await refused(user, OF_LAUNCHERS, launcher.token, None) == {}
    assert await refused(user, OF_PEOPLE, launcher.token, "forbidden") == {}
    assert await refused(user, OF_GUESTS, launcher.token, "unauthenticated") == {}


async def test_a_guest_has_its_own_item_and_nothing_else(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}, {}])
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    lease = (await claim(launcher, dispatched["ticket"])).json["lease"]
    assert await refused(user, BY_TOKEN, lease, "unauthenticated") == {}
    assert await refused(user, BY_TOKEN, dispatched["ticket"], "unauthenticated") == {}
    assert await refused(user, OF_GUESTS, dispatched["ticket"], "unauthenticated") == {}
    assert await refused(user, OF_GUESTS, user.token, "unauthenticated") == {}
    for other in (lease.replace("alice/render/1", "alice/render/2"), lease.replace("/1.1.", "/1.2."), f"{lease}x"):
        assert other != lease
        for route in OF_GUESTS:
            body = GOOD_BODIES.get(route.path.rpartition("/")[2], {})
            answer = await user.bearing(other).call(route.method, route.path, json=body)
            assert answer.code == "lease_lost", route.path


async def test_a_launcher_reaches_its_own_dispatches_and_nobody_elses(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer(launcher="l1"))
    site = user.bearing((await user.ok("POST", "/v1/sites/renci/tokens", json={}))["token"])
    bodies: dict[str, dict[str, Any]] = {
        "extend": {},
        "events": {"phase": "preparing"},
        "end": {"verdict": "drained", "sentence": "over"},
    }
    of_dispatches = [route.path.rpartition("/")[2] for route in OF_LAUNCHERS if "{dispatch}" in route.path]
    assert set(of_dispatches) == set(bodies)
    for act in of_dispatches:
        path = f"/v1/dispatches/{dispatched['dispatch']}/{act}"
        for other, name in ((site, "l1"), (launcher, "l2")):
            answer = await other.call("POST", path, json={**bodies[act], "launcher": name})
            assert answer.code == "not_found", (act, name)
        assert (await launcher.call("POST", path, json={**bodies[act], "launcher": "l1"})).status == 200, act

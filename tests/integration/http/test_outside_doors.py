"""A running broker and an institution's issuer: whose tokens open what, and who logs in by its word."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from broker.app import running_broker
from broker.settings import load_settings
from tests.support.api import Answer, Api
from tests.support.authority import Authority
from tests.support.issuer import Issuer, running_issuer

AUDIENCE, CLIENT = "https://broker.example", "vmbroker"
KEYS = [base64.b64encode(letter * 32).decode() for letter in (b"a", b"b")]


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[tuple[Issuer, Path]]:
    authority = Authority()
    (tmp_path / "ca.pem").write_text(authority.ca_pem)
    async with running_issuer(authority, tmp_path) as issuer:
        yield issuer, tmp_path / "ca.pem"


@pytest.fixture
async def broker(
    issuer: tuple[Issuer, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Api, Issuer]]:
    """Calls of nobody to a broker that trusts the issuer for alice and bob, and the issuer."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    institution, ca = issuer
    trusted = {"issuer": institution.url, "audience": AUDIENCE, "paths": ["/alice", "/bob"], "client_id": CLIENT}
    settings = load_settings(
        {
            "data": tmp_path / "data",
            "listen": "127.0.0.1:0",
            "user": "operator",
            "issuers": [trusted],
            "outgoing_trusted": [f"localhost:{institution.origin.port}"],
            "outgoing_ca": ca,
        }
    )
    async with running_broker(settings) as url, aiohttp.ClientSession() as http:
        yield Api(http, url, None), institution


def token(issuer: Issuer, **claims: object) -> str:
    return issuer.sign(**{"aud": AUDIENCE, "sub": "alice", "scope": "queue.read:/ queue.modify:/", **claims})


async def log_in(broker: Api, issuer: Issuer, id_token: str, key: str = KEYS[0]) -> Answer:
    body = {"issuer": issuer.url, "id_token": id_token, "login_key": key}
    return await broker.call("POST", "/v1/login", json=body)


async def test_an_institutions_token_opens_what_is_its_own_users(broker: tuple[Api, Issuer]) -> None:
    nobody, issuer = broker
    alice = nobody.bearing(token(issuer))

    assert (await alice.ok("GET", "/v1/whoami"))["user"] == "alice"
    assert await alice.ok("GET", "/v1/streams") == []
    assert await alice.ok("GET", "/v1/streams?user=bob") == []
    assert (await alice.call("GET", "/v1/streams?user=carol")).code == "not_found"
    for claims in ({"sub": "carol"}, {"aud": "https://other.example"}, {"iss": "https://other.example"}, {"exp": 1}):
        assert (await nobody.bearing(token(issuer, **claims)).call("GET", "/v1/whoami")).code == "unauthenticated"


async def test_an_institutions_token_is_revoked_as_any_other(broker: tuple[Api, Issuer]) -> None:
    nobody, issuer = broker
    alice, other = nobody.bearing(token(issuer, jti="1")), nobody.bearing(token(issuer, jti="2"))
    token_id = (await alice.ok("GET", "/v1/whoami"))["token_id"]

    assert (await nobody.bearing(token(issuer, sub="bob")).call("DELETE", f"/v1/tokens/{token_id}")).code == "not_found"
    await alice.ok("DELETE", f"/v1/tokens/{token_id}")
    assert (await alice.call("GET", "/v1/whoami")).code == "unauthenticated"
    assert (await other.call("GET", "/v1/whoami")).status == 200


async def test_what_the_broker_makes_of_an_institutions_token_is_within_it(broker: tuple[Api, Issuer]) -> None:
    nobody, issuer = broker
    alice = nobody.bearing(token(issuer, jti="1"))
    made = await alice.ok("POST", "/v1/tokens", json={})

    assert made["scopes"] == [f"queue.{act}:/{user}" for act in ("modify", "read") for user in ("alice", "bob")]
    assert (await alice.call("POST", "/v1/tokens", json={"scopes": ["queue.read:/carol"]})).code == "forbidden"
    await alice.ok("DELETE", f"/v1/tokens/{(await alice.ok('GET', '/v1/whoami'))['token_id']}")
    assert (await nobody.bearing(made["token"]).call("GET", "/v1/whoami")).code == "unauthenticated"


async def test_an_institutions_launcher_is_no_site_of_the_brokers(broker: tuple[Api, Issuer]) -> None:
    nobody, issuer = broker
    launcher = nobody.bearing(token(issuer, scope="queue.dispatch:/alice"))
    room = {"vcpus": 1, "memory_mib": 1, "disk_mib": 1, "accelerator": "tcg"}
    await launcher.ok("PUT", "/v1/launchers/l1", json={"node": "n", "total": room})

    [listed] = (await launcher.ok("GET", "/v1/launchers"))["launchers"]
    assert listed["launcher"] == "alice@localhost/l1"
    assert (await launcher.call("GET", "/v1/tokens?site=alice")).code == "forbidden"


async def test_an_institutions_word_logs_its_user_in_once(broker: tuple[Api, Issuer]) -> None:
    nobody, issuer = broker
    assert (await nobody.ok("GET", "/v1/login"))["issuers"] == [{"issuer": issuer.url, "client_id": CLIENT}]
    word = issuer.sign(aud=CLIENT, sub="bob")
    first, again = (await log_in(nobody, issuer, word)).json, (await log_in(nobody, issuer, word)).json

    assert first["login"] == again["login"]
    me = await nobody.bearing(first["token"]).ok("GET", "/v1/whoami")
    assert me["user"] == "bob"
    assert not any("admin" in scope for scope in me["scopes"])
    stolen = await log_in(nobody, issuer, word, KEYS[1])
    assert (stolen.status, stolen.code) == (409, "code_spent")
    assert (await nobody.bearing(first["token"]).call("GET", "/v1/whoami")).code == "unauthenticated"


async def test_nobody_logs_in_by_a_word_that_is_not_for_the_broker(broker: tuple[Api, Issuer]) -> None:
    nobody, issuer = broker
    words = [
        issuer.sign(aud=AUDIENCE, sub="bob"),
        issuer.sign(aud=CLIENT, sub="carol"),
        issuer.sign(aud=CLIENT, sub="bob", exp=1),
        issuer.sign(aud=[CLIENT, "other"], azp="other", sub="bob"),
        "a.b.c",
        "",
    ]
    for word in words:
        assert (await log_in(nobody, issuer, word)).code == "unauthenticated"
    both = {"code": "AAAAA-AAAAA-AAAAA-AAAAA-AAAAA", "issuer": issuer.url, "id_token": words[0], "login_key": KEYS[0]}
    assert (await nobody.call("POST", "/v1/login", json=both)).code == "bad_request"

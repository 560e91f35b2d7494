"""Secrets over HTTP: kept sealed, and handed over TLS to guests of trusted launchers alone."""

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.app import running_broker
from broker.auth.keys import load_keys
from broker.auth.tokens import Tokens
from broker.domain.scopes import OF_A_USER, Scopes, parse_scopes, scopes_of_launcher
from broker.settings import load_settings
from broker.store import Store
from broker.wire.names import OwnedName, UserName
from tests.integration.http.sealed.scene import (
    AUTHORITY,
    LICENCE,
    NEEDY,
    PROXY,
    TOKEN,
    Labelled,
    claim,
    claim_key,
    events,
    kept_below,
    needy_item,
    put,
    values,
)
from tests.support import certificates
from tests.support.api import Api, add_machine, add_stream, offer
from tests.support.grid import free_port


async def test_a_secret_is_put_told_of_and_removed_and_never_sent_back(user: Api) -> None:
    view = await put(user)
    assert view["version"] == 1
    assert (view["secret"], view["kind"], view["size_bytes"]) == ("alice/proxy", "x509_proxy", len(PROXY))
    assert set(view) == {"secret", "kind", "size_bytes", "version", "created_at", "updated_at"}
    assert await user.ok("GET", "/v1/secrets/alice/proxy") == view
    assert await user.ok("GET", "/v1/secrets") == await user.ok("GET", "/v1/secrets?user=alice") == [view]
    assert (await user.call("DELETE", "/v1/secrets/alice/proxy")).status == 204
    for method in ("GET", "DELETE"):
        answer = await user.call(method, "/v1/secrets/alice/proxy")
        assert answer.code == "not_found"
        assert answer.json["detail"] == "there is no secret alice/proxy: add it with `broker secret add proxy`"


@pytest.mark.parametrize(
    ("value", "kind", "code"),
    [
        (b"x" * 65_537, "file", "too_large"),
        (b"short", "file", "bad_request"),
        (TOKEN, "x509_proxy", "bad_request"),
        (LICENCE, "bearer_token", "bad_request"),
    ],
)
async def test_what_is_no_secret_of_its_kind_is_refused_without_being_quoted(
    user: Api, value: bytes, kind: str, code: str
) -> None:
    body = {"value": base64.b64encode(value).decode(), "kind": kind}
    answer = await user.call("PUT", "/v1/secrets/alice/s", json=body)
    assert answer.code == code
    assert value not in answer.body
    assert base64.b64encode(value) not in answer.body


async def test_the_disk_holds_a_secret_sealed_alone(
    user: Api, labelled: Labelled, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    await put(user)
    _, given = await needy_item(user, labelled("renci"))
    claimed = await claim(user, given["ticket"])
    assert values(claimed.json["secrets"]) == {"proxy": PROXY}
    assert kept_below(tmp_path / "data", PROXY) == []
    said = "".join(capfd.readouterr())
    assert "secret_given" in said
    assert [line for line in PROXY.decode().splitlines() if len(line) > 40 and line in said] == []


async def test_a_claim_brings_the_secrets_and_so_does_its_repetition_which_is_told_once(
    user: Api, labelled: Labelled
) -> None:
    await put(user)
    await put(user, "token", TOKEN, "bearer_token")
    await put(user, "other", b"not asked for", "file")
    uses = [{"name": "proxy"}, {"name": "token", "as": "file"}]
    stream, given = await needy_item(user, labelled("unl"), secrets=uses)
    key = claim_key()
    first, again = [(await claim(user, given["ticket"], key)).json for _ in range(2)]
    assert first["secrets"] == again["secrets"]
    assert [(each["name"], each["kind"], each["version"]) for each in first["secrets"]] == [
        ("proxy", "x509_proxy", 1),
        ("token", "file", 2),
    ]
    assert values(first["secrets"]) == {"proxy": PROXY, "token": TOKEN}
    told = [each for each in await events(user, stream) if each["type"] == "org.vmbroker.secret.given"]
    assert [(each["data"]["secret"], each["data"]["version"]) for each in told] == [("proxy", 1), ("token", 2)]
    assert {each["data"]["dispatch"] for each in told} == {given["dispatch"]}


async def test_a_launcher_without_a_trusted_label_gets_nothing_and_why_says_so(
    user: Api, launcher: Api, labelled: Labelled
) -> None:
    await put(user)
    stream = await add_stream(user, **NEEDY)
    await user.ok("POST", f"{stream}/items", json=[{}])
    for caller in (launcher, labelled("renci2", "RENCI")):
        assert (await caller.call("POST", "/v1/dispatch", json=offer())).status == 204
    why = await user.ok("GET", f"{stream}/items/1/why")
    assert why["code"] == "not_trusted"
    assert why["sentence"] == (
        "alice/render/1 is ready: 2 launchers: none is trusted with the stream's secrets "
        "(wants label renci or unl in the launcher's token)"
    )
    assert why["launchers"] == {"not_trusted": 2}
    assert (await labelled("renci", subject="trusted").call("POST", "/v1/dispatch", json=offer())).status == 200


async def test_of_several_launchers_why_counts_those_that_are_not_trusted(
    user: Api, launcher: Api, labelled: Labelled
) -> None:
    await put(user)
    stream = await add_stream(user, **NEEDY, needs={"memory_mib": 8_192})
    await user.ok("POST", f"{stream}/items", json=[{}])
    room = {"vcpus": 4, "memory_mib": 100, "disk_mib": 100_000, "accelerator": "tcg", "exchanges": ["network"]}
    # A busy one that only told of itself is known by the labels of the token with which it did.
    await labelled("unl").ok("PUT", "/v1/launchers/l2", json={"node": "n2", "total": room})
    await launcher.ok("PUT", "/v1/launchers/l1", json={"node": "n1", "total": {**room, "memory_mib": 9_000}})
    why = await user.ok("GET", f"{stream}/why")
    assert why["code"] == "needs_unmet"
    assert "1 has too little memory (largest 100 MiB, it wants 8192)" in why["sentence"]
    assert "1 is not trusted with its secrets" in why["sentence"]


async def test_who_waits_with_the_right_label_is_given_what_those_before_it_may_not_have(
    user: Api, launcher: Api, labelled: Labelled, parked: Callable[[int], Any]
) -> None:
    await put(user)
    stream = await add_stream(user, **NEEDY)
    waiting = [
        asyncio.create_task(caller.call("POST", "/v1/dispatch", json=offer(wait_ms=20_000, launcher=f"l{number}")))
        for number, caller in enumerate((launcher, labelled("other"), labelled("renci")))
    ]
    await parked(3)
    await user.ok("POST", f"{stream}/items", json=[{}])
    assert (await asyncio.wait_for(waiting[2], 10)).status == 200
    assert [task.done() for task in waiting] == [False, False, True]
    for task in waiting[:2]:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_a_spec_may_name_is_asked_for_by_secret_use(user: Api, tmp_path: Path) -> None:
    await put(user)
    await add_machine(user)
    tokens = Tokens(load_keys(tmp_path / "data" / "keys"))
    body = {"machine": "m", "run": "x", **NEEDY}

    async def asked(scope: str) -> str | None:
        token = tokens.issue("alice", Scopes(parse_scopes(scope)), timedelta(minutes=5))
        answer = await user.bearing(token).call("PUT", "/v1/streams/alice/render", json=body)
        return answer.code if answer.status >= 400 else None

    others = " ".join(f"{each}:/alice" for each in OF_A_USER if each != "secret.use")
    assert await asked(others) == "forbidden"
    assert await asked(f"{others} secret.use:/alice/licence") == "forbidden"
    assert await asked(f"{others} secret.use:/bob") == "forbidden"
    assert await asked(f"{others} secret.use:/alice/proxy") is None


async def test_a_spec_names_secrets_that_are_there(user: Api) -> None:
    await add_machine(user)
    body = {"machine": "m", "run": "x", **NEEDY}
    answer = await user.call("PUT", "/v1/streams/alice/render", json=body)
    assert answer.code == "bad_spec"
    assert answer.json["detail"] == "path secrets: there is no secret alice/proxy; `broker secret add proxy` first"


async def test_two_secrets_of_one_kind_cannot_both_be_announced(user: Api) -> None:
    await add_machine(user)
    await put(user)
    await put(user, "second")
    body = {"machine": "m", "run": "x", "secrets": [{"name": "proxy"}, {"name": "second"}], "trust": ["renci"]}
    answer = await user.call("PUT", "/v1/streams/alice/render", json=body)
    assert answer.code == "bad_spec"
    assert "2 secrets would be X509_USER_PROXY" in answer.json["detail"]
    body["secrets"][1]["as"] = "file"  # type: ignore[index] # it is a list, above
    await user.ok("PUT", "/v1/streams/alice/render", json=body)


async def test_a_secret_that_is_gone_at_the_claim_holds_its_item_and_says_what_to_do(
    user: Api, labelled: Labelled
) -> None:
    await put(user)
    stream, given = await needy_item(user, labelled("renci"))
    await user.call("DELETE", "/v1/secrets/alice/proxy")
    refused = await claim(user, given["ticket"])
    assert (refused.status, refused.code) == (409, "secret_withheld")
    item = await user.ok("GET", f"{stream}/items/1")
    assert (item["state"], item["reason"]["code"]) == ("held", "secret_missing")
    missing = "its stream needs the secret alice/proxy, which is not there any more: `broker secret add proxy`"
    assert refused.json["detail"] == missing
    assert item["reason"]["sentence"] == (
        f"{missing}; then `broker release alice/render/1` and `broker resume alice/render`"
    )
    assert (await user.ok("GET", f"{stream}/why"))["sentence"].startswith(f"alice/render gives nothing out: {missing}")
    assert (await claim(user, given["ticket"])).code == "ticket_spent"
    await put(user)
    await user.ok("POST", f"{stream}/items/1/release")
    await user.ok("POST", f"{stream}/resume")
    again = await labelled("renci").ok("POST", "/v1/dispatch", json=offer())
    assert values((await claim(user, again["ticket"])).json["secrets"]) == {"proxy": PROXY}


async def test_a_sealed_text_that_somebody_moved_in_the_store_opens_nothing(
    user: Api, labelled: Labelled, tmp_path: Path
) -> None:
    await put(user)
    await put(user, "other", LICENCE, "file")
    stream, given = await needy_item(user, labelled("renci"))
    store = await Store.connect(f"unix://{next((tmp_path / 'data/store').glob('*.sock'))}")
    try:
        keys = [store._keys.secret(OwnedName(UserName("alice"), name)) for name in ("proxy", "other")]
        stolen = await store._server.command("HGET", keys[1], "sealed")
        await store._server.command("HSET", keys[0], "sealed", stolen)
    finally:
        await store.close()
    refused = await claim(user, given["ticket"])
    assert refused.code == "secret_withheld"
    assert "cannot be opened by the broker: add it anew" in refused.json["detail"]
    item = await user.ok("GET", f"{stream}/items/1")
    assert (item["state"], item["reason"]["code"]) == ("held", "secret_withheld")


async def test_a_client_that_cannot_keep_secrets_is_given_none(user: Api, labelled: Labelled) -> None:
    await put(user)
    stream, given = await needy_item(user, labelled("renci"))
    refused = await claim(user, given["ticket"], takes_secrets=False)
    assert refused.code == "secret_withheld"
    assert "too old to keep them" in refused.json["detail"]
    item = await user.ok("GET", f"{stream}/items/1")
    assert (item["state"], item["reason"]["code"]) == ("held", "secret_withheld")
    assert "org.vmbroker.secret.given" not in {each["type"] for each in await events(user, stream)}


async def test_a_changed_secret_reaches_the_guest_at_its_next_call(user: Api, labelled: Labelled) -> None:
    await put(user)
    stream, given = await needy_item(user, labelled("renci"))
    guest = user.bearing((await claim(user, given["ticket"])).json["lease"])
    has = {"secrets": {"proxy": 1}}
    assert "secrets" not in await guest.ok("POST", "/v1/lease/urls", json=has)
    fresh = certificates.proxy(certificates.person(AUTHORITY, "alice")).as_proxy_file
    await put(user, value=fresh)
    assert "secrets" not in await guest.ok("POST", "/v1/lease/urls", json={})
    assert "secrets" not in await guest.ok("POST", "/v1/lease/urls", json={"secrets": {"another": 1}})
    [changed] = (await guest.ok("POST", "/v1/lease/urls", json=has))["secrets"]
    assert (changed["version"], base64.b64decode(changed["value"])) == (2, fresh)
    assert "secrets" not in await guest.ok("POST", "/v1/lease/urls", json={"secrets": {"proxy": 2}})
    await user.call("DELETE", "/v1/secrets/alice/proxy")
    assert "secrets" not in await guest.ok("POST", "/v1/lease/urls", json=has)
    versions = [each["data"]["version"] for each in await events(user, stream) if "secret.given" in each["type"]]
    assert versions == [1, 2]


async def test_without_tls_no_spec_names_secrets_and_none_is_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream was put while a server before the broker ended TLS; then the broker is started without."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    told = {"data": tmp_path / "data", "listen": "127.0.0.1:0", "user": "alice"}
    port = free_port()
    behind = load_settings({**told, "listen": f"127.0.0.1:{port}", "public_url": "https://broker.example"})
    async with aiohttp.ClientSession() as http:
        async with running_broker(behind) as url:
            assert url == "https://broker.example"
            token = json.loads((tmp_path / "config/vmbroker/login.json").read_text())["token"]
            user = Api(http, f"http://127.0.0.1:{port}", token)
            await put(user)
            stream = await add_stream(user, **NEEDY)
            await user.ok("POST", f"{stream}/items", json=[{}])
        async with running_broker(load_settings(told)) as url:
            user = Api(http, url, token)
            body = {"machine": "m", "run": "x", **NEEDY}
            answer = await user.call("PUT", "/v1/streams/alice/another", json=body)
            assert answer.code == "bad_spec"
            assert answer.json["detail"].endswith(
                "who runs it must give --tls-cert and --tls-key, or an https --public-url"
            )
            labelled = Tokens(load_keys(tmp_path / "data/keys")).issue(
                "renci", scopes_of_launcher(), timedelta(minutes=5), ("renci",)
            )
            given = await user.bearing(labelled).ok("POST", "/v1/dispatch", json=offer())
            refused = await claim(user, given["ticket"])
            assert refused.code == "secret_withheld"
            item = await user.ok("GET", f"{stream}/items/1")
            assert (item["state"], item["reason"]["code"]) == ("held", "secret_withheld")

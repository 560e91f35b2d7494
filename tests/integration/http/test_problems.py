from typing import Any

import pytest

from broker.store import Store
from tests.support.api import Api, add_machine, add_stream


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("GET", "/v1/nothing", None, "not_found"),
        ("GET", "/v1/streams/alice/render/items/7", None, "not_found"),
        ("GET", "/v1/streams/alice/none", None, "not_found"),
        ("PATCH", "/v1/streams/alice/render", None, "method_not_allowed"),
        ("POST", "/v1/streams/alice/render/items", b"[" + b" " * 4_194_304 + b"]", "too_large"),
        ("POST", "/v1/streams/alice/render/items", b"{nonsense", "bad_request"),
        ("PUT", "/v1/streams/alice/render", b'{"machine": "m", "run": "x", "atempts": 3}', "bad_request"),
        ("PUT", "/v1/streams/alice/..%2Fbob", b"{}", "bad_request"),
        ("PUT", "/v1/streams/alice/render", b'{"machine": "none", "run": "x"}', "bad_spec"),
        ("GET", "/v1/streams/alice/render?state=done", None, "bad_request"),
        ("GET", "/v1/streams/alice/render?revision=0", None, "bad_request"),
        ("GET", "/v1/streams/alice/render?revision=7", None, "not_found"),
        ("GET", "/v1/streams/alice/none/revisions", None, "not_found"),
        ("GET", "/v1/streams/alice/render/items?stat=done", None, "bad_request"),
        ("GET", "/v1/streams/alice/render/items?state=dnoe", None, "bad_request"),
        ("GET", "/v1/streams/alice/render/events?after=yesterday", None, "bad_request"),
        ("GET", f"/v1/streams/alice/render/items?limit={'9' * 5_000}", None, "bad_request"),
        ("GET", f"/v1/streams/alice/render/items?cursor=0-{'9' * 5_000}", None, "bad_request"),
        ("GET", f"/v1/streams/alice/render/items?state=done&cursor={'9' * 5_000}-1", None, "bad_request"),
        ("GET", f"/v1/streams/alice/render/events?after={'9' * 30}-1", None, "bad_request"),
        ("POST", "/v1/claim", b'{"x":' + b"[" * 60_000, "bad_request"),
        ("POST", "/v1/claim", b'{"x":' + b"[" * 100_000, "too_large"),
        (
            "PUT",
            "/v1/streams/alice/render",
            b'{"machine": "m", "run": "x", "output": {"to": "http://h:99999/{name}"}}',
            "bad_spec",
        ),
        ("GET", "/v1/images/sha256:123", None, "bad_request"),
        ("GET", "/v1/files/alice/none", None, "not_found"),
    ],
)
async def test_every_error_is_a_problem_with_a_request_id(
    user: Api, method: str, path: str, body: bytes | None, code: str
) -> None:
    await add_stream(user)

    answer = await user.call(method, path, data=body, headers={"X-Request-Id": "from-the-client-1"})

    assert answer.headers["X-Request-Id"] == "from-the-client-1"
    assert answer.code == code


async def test_a_wrong_request_id_of_a_client_is_replaced(user: Api) -> None:
    answer = await user.call("GET", "/healthz", headers={"X-Request-Id": "no good: <script>"})

    assert len(answer.headers["X-Request-Id"]) == 32


async def test_a_bug_shows_its_request_id_and_nothing_else(user: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(Store, "get_stream", broken)

    answer = await user.call("GET", "/v1/streams/alice/render")

    assert (answer.status, answer.code) == (500, "internal")
    assert b"swordfish" not in answer.body
    assert answer.headers["X-Request-Id"] in answer.json["detail"]


async def test_all_faults_of_a_spec_are_told_at_once(user: Api) -> None:
    await add_machine(user)
    spec = {
        "machine": "m",
        "run": "",
        "as_user": "no good",
        "retry": {"attempts": 0},
        "output": {"to": "file:bob/{name}"},
        "network": ["nowhere"],
    }

    answer = await user.call("PUT", "/v1/streams/alice/render", json=spec)

    assert answer.code == "bad_spec"
    faults = {refusal["path"]: refusal for refusal in answer.json["refusals"]}
    assert set(faults) == {"run", "as_user", "retry.attempts", "output.to", "network"}
    assert all(refusal["reason"] and refusal["remedy"] for refusal in faults.values())


async def test_an_xml_that_asks_for_the_host_is_refused_with_every_reason(user: Api) -> None:
    await add_machine(user)
    definition = await user.ok("GET", "/v1/machines/alice/m")
    xml = definition["domain_xml"].replace(
        "<devices>",
        "<devices><hostdev mode='subsystem' type='pci'/><filesystem><source dir='/etc'/><target dir='x'/></filesystem>",
    )

    answer = await user.call("PUT", "/v1/machines/alice/m", json={"domain_xml": xml, "disks": definition["disks"]})

    assert (answer.status, answer.code) == (422, "xml_refused")
    paths = [refusal["path"] for refusal in answer.json["refusals"]]
    assert any("hostdev" in path for path in paths)
    assert any("filesystem" in path for path in paths)
    assert all(refusal["reason"] and refusal["remedy"] for refusal in answer.json["refusals"])
    assert (await user.ok("GET", "/v1/machines/alice/m"))["revision"] == 1


async def test_a_disk_needs_an_image_that_was_uploaded_by_its_user(user: Api) -> None:
    await add_machine(user)
    definition = await user.ok("GET", "/v1/machines/alice/m")
    disk = {**definition["disks"]["vda"], "digest": "sha256:" + "0" * 64}

    unknown = await user.call(
        "PUT", "/v1/machines/alice/m", json={"domain_xml": definition["domain_xml"], "disks": {"vda": disk}}
    )
    not_given = await user.call(
        "PUT", "/v1/machines/alice/m", json={"domain_xml": definition["domain_xml"], "disks": {}}
    )

    assert unknown.code == "image_missing"
    assert not_given.code == "xml_refused"
    assert "vda" in not_given.json["refusals"][0]["reason"]


async def test_health_needs_no_token_and_readiness_asks_the_store(user: Api) -> None:
    nobody = user.bearing(None)

    assert await nobody.ok("GET", "/healthz") == {"status": "ok"}
    assert await nobody.ok("GET", "/readyz") == {"status": "ready"}

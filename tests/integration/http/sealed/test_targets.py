"""Inputs and targets elsewhere, from the push to the accepted result, by plain HTTP calls."""

import base64
from collections.abc import Iterator
from typing import Any

import aiohttp
import obstore
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from tests.integration.http.sealed.scene import TOKEN, Labelled, claim, events, put
from tests.support.api import Api, add_stream, digest_of, offer
from tests.support.s3_server import CREDENTIALS, KEY_ID, REGION, SECRET, S3Server, s3_server

RESULT = b"a result"
ACCESS = {"share.example": {"headers": {"X-Project": "render"}, "secret_headers": {"Authorization": "token"}}}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        server.make_bucket("lab")
        yield server


@pytest.fixture
def trusted(s3: S3Server) -> tuple[str, ...]:
    return (s3.url.removeprefix("http://"),)


async def s3_item(user: Api, launcher: Api, s3: S3Server, **more: Any) -> tuple[str, Api, list[bytes]]:
    """Give out an item whose input and target are in S3; return its stream, its guest, and the answers until then."""
    await put(user, "ceph", CREDENTIALS.encode(), "aws_credentials")
    obstore.put(s3.bucket("lab"), "in/a b.txt", b"an input")
    spec = {
        "s3": {"secret": "ceph", "endpoint": s3.url, "region": REGION},
        "inputs": {"more": "s3://lab/in/a%20b.txt"},
        "output": {"files": ["*"], "to": "s3://lab/out/{item}/{name}"},
        **more,
    }
    stream = await add_stream(user, **spec)
    await user.ok("POST", f"{stream}/items", json=[{"url": "s3://lab/in/a%20b.txt"}])
    dispatched = await launcher.call("POST", "/v1/dispatch", json=offer())
    claimed = await claim(launcher, dispatched.json["ticket"])
    return stream, launcher.bearing(claimed.json["lease"]), [dispatched.body, claimed.body]


async def narrow(user: Api, *scopes: str) -> Api:
    """Return a bearer of a token with these scopes alone."""
    return user.bearing((await user.ok("POST", "/v1/tokens", json={"scopes": scopes}))["token"])


async def ask(method: str, url: str, **more: Any) -> tuple[int, bytes]:
    """Ask a server that is not the broker, as a guest does."""
    async with aiohttp.ClientSession() as http, http.request(method, URL(url, encoded=True), **more) as answer:
        return answer.status, await answer.read()


async def test_an_item_reads_and_writes_s3_and_no_key_leaves_the_broker(user: Api, launcher: Api, s3: S3Server) -> None:
    stream, guest, said = await s3_item(user, launcher, s3)
    facts = {"out.txt": {"size_bytes": len(RESULT), "digest": digest_of(RESULT)}}
    asked = await guest.call("POST", "/v1/lease/urls", json={"outputs": ["out.txt"], "uploads": facts})
    assert asked.status == 200, asked
    for signed in (asked.json["input"], asked.json["inputs"]["more"]):
        assert await ask("GET", signed["url"]) == (200, b"an input")
    put_to = asked.json["outputs"]["out.txt"]

    other = await ask("PUT", put_to["url"], data=b"b result", headers=put_to["headers"])
    assert other[0] == 400, "signed for these very bytes"
    unguarded = {name: value for name, value in put_to["headers"].items() if name != "If-None-Match"}
    assert (await ask("PUT", put_to["url"], data=RESULT, headers=unguarded))[0] == 403

    result = {"name": "out.txt", "size_bytes": len(RESULT), "digest": digest_of(RESULT), "url": put_to["target"]}
    early = await guest.call("POST", "/v1/lease/complete", json={"outputs": [result], "exit_code": 0})
    assert early.code == "output_not_verified"
    assert (await ask("PUT", put_to["url"], data=RESULT, headers=put_to["headers"]))[0] == 200
    false = {**result, "digest": digest_of(b"b result")}
    lied = await guest.call("POST", "/v1/lease/complete", json={"outputs": [false], "exit_code": 0})
    assert lied.code == "output_not_verified"
    again = await ask("PUT", put_to["url"], data=RESULT, headers=put_to["headers"])
    assert again[0] == 412, "nothing is replaced"

    done = await guest.call("POST", "/v1/lease/complete", json={"outputs": [result], "exit_code": 0})
    assert done.status == 200, done
    results = await user.call("GET", f"{stream}/results")
    assert b'"url":"s3://lab/out/1/out.' in results.body
    answer = await user.call("GET", f"{stream}/items/1/outputs/out.txt", follows=False)
    assert answer.status == 307
    led = answer.headers["Location"]
    assert await ask("GET", led) == (200, RESULT)

    shown = [*said, asked.body, early.body, done.body, results.body, led.encode()]
    shown += [(await user.call("GET", path)).body for path in (stream, "/v1/secrets", "/v1/secrets/alice/ceph")]
    key = SECRET.encode()
    assert not any(key in body or base64.b64encode(key)[:-4] in body for body in shown)
    # The key's id is in every signed address: S3 has to know whose signature it is.
    assert KEY_ID.encode() in asked.body


async def test_s3_without_its_keys_holds_the_item_and_pauses_the_stream(user: Api, launcher: Api, s3: S3Server) -> None:
    stream, guest, _ = await s3_item(user, launcher, s3)
    await user.ok("DELETE", "/v1/secrets/alice/ceph")
    answer = await guest.call("POST", "/v1/lease/urls", json={"outputs": ["o"]})
    assert answer.code == "secret_withheld"
    item = await user.ok("GET", f"{stream}/items/1")
    assert (item["state"], item["reason"]["code"]) == ("held", "secret_withheld")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"s3": {"secret": "token"}}, "s3: token is bearer_token, no aws_credentials"),
        ({"s3": {"secret": "none"}}, "s3: there is no secret alice/none"),
        ({"secrets": [{"name": "ceph"}], "trust": ["renci"]}, "secrets: ceph is aws_credentials, which no vm is given"),
        (
            {"access": {"a.example": {"secret_headers": {"X": "ceph"}}}, "trust": ["renci"]},
            "access: ceph is aws_credentials, which no vm is given",
        ),
        ({"inputs": {"a": "file:alice/none"}}, "inputs: a: there is no file file:alice/none"),
        ({"inputs": {"a": "file:bob/secret"}}, "inputs: a: there is no file file:bob/secret, or you may not read it"),
    ],
)
async def test_what_a_spec_names_has_to_be_there_and_of_use(user: Api, spec: dict[str, Any], said: str) -> None:
    await put(user, "ceph", CREDENTIALS.encode(), "aws_credentials")
    await put(user, "token", TOKEN, "bearer_token")
    await add_stream(user)
    answer = await user.call("PUT", "/v1/streams/alice/render", json={"machine": "m", "run": "x", **spec})
    assert answer.code == "bad_spec"
    assert said in answer.json["detail"]


async def test_s3_credentials_are_looked_at_when_they_are_put(user: Api) -> None:
    body = {"value": base64.b64encode(b"[default]\naws_access_key_id = K\n").decode(), "kind": "aws_credentials"}
    answer = await user.call("PUT", "/v1/secrets/alice/ceph", json=body)
    assert (answer.code, "aws_secret_access_key" in answer.json["detail"]) == ("bad_request", True)


async def test_headers_go_to_their_origin_alone_and_each_handing_out_is_an_event(
    user: Api, launcher: Api, labelled: Labelled
) -> None:
    await put(user, "token", TOKEN, "bearer_token")
    output = {"files": ["*"], "to": "davs://share.example/dav/{job}/{item}/{name}"}
    stream = await add_stream(user, access=ACCESS, trust=["renci"], output=output)
    await user.ok("POST", f"{stream}/items", json=[{"url": "https://other.example/in"}])
    assert (await launcher.call("POST", "/v1/dispatch", json=offer())).status == 204, "nobody trusted it"

    dispatched = await labelled("renci").ok("POST", "/v1/dispatch", json=offer())
    assert {"share.example:443", "other.example:443"} <= set(dispatched["origins"])
    claimed = await claim(launcher, dispatched["ticket"])
    assert "secrets" not in claimed.json
    assert TOKEN not in claimed.body
    guest = launcher.bearing(claimed.json["lease"])
    assert TOKEN not in (await guest.call("POST", "/v1/lease/urls", json={})).body
    signed = await guest.ok("POST", "/v1/lease/urls", json={"outputs": ["sub/out.txt"]})
    assert "headers" not in signed["input"]
    out = signed["outputs"]["sub/out.txt"]
    assert out["headers"] == {"X-Project": "render", "Authorization": f"Bearer {TOKEN.decode()}"}
    assert out["target"].startswith("davs://share.example/dav/render/1/sub/out.")
    folders = [f"https://share.example/dav/render/{more}" for more in ("", "1/", "1/sub/")]
    assert out["folders"] == folders
    given = [each for each in await events(user, stream) if each["type"] == "org.vmbroker.secret.given"]
    assert [each["data"]["secret"] for each in given] == ["token"]

    bad = await user.call("POST", f"{stream}/items", json=[{"url": "http://share.example:8080/in"}])
    assert bad.status == 201, "another port is another origin"


async def test_who_may_not_use_a_secret_has_nothing_fetched_by_it(user: Api) -> None:
    await put(user, "token", TOKEN, "bearer_token")
    await put(user, "ceph", CREDENTIALS.encode(), "aws_credentials")
    stream = await add_stream(user, access=ACCESS, trust=["renci"], s3={"secret": "ceph"})
    pusher = await narrow(user, "queue.submit:/alice/render")
    urls = ("s3://another-bucket/key", "https://share.example/private", "https://other.example/in")

    answers = [await pusher.call("POST", f"{stream}/items", json=[{"url": url}]) for url in urls]
    answers.append(await pusher.call("POST", f"{stream}/items", json=[{"inputs": {"more": urls[0]}}]))

    assert [answer.status for answer in answers] == [422, 422, 201, 422]
    assert "the secret ceph, which this token may not use" in answers[0].json["detail"]
    lent = await narrow(user, "queue.submit:/alice/render", "secret.use:/alice/ceph")
    assert (await lent.call("POST", f"{stream}/items", json=[{"url": urls[0]}])).status == 201
    assert (await lent.call("POST", f"{stream}/items", json=[{"url": urls[1]}])).code == "bad_items"


async def test_a_secret_goes_to_nobody_in_the_clear(user: Api) -> None:
    await put(user, "token", TOKEN, "bearer_token")
    stream = await add_stream(user, access={"share.example:8080": ACCESS["share.example"]}, trust=["renci"])
    answer = await user.call("POST", f"{stream}/items", json=[{"url": "http://share.example:8080/in"}])
    assert (answer.code, "https" in answer.json["detail"]) == ("bad_items", True)


async def test_a_dry_run_checks_all_shows_where_files_would_go_and_adds_nothing(user: Api) -> None:
    await put(user, "token", TOKEN, "bearer_token")
    output = {"files": ["*"], "to": "davs://share.example/dav/{item}/{input.path}"}
    stream = await add_stream(user, access=ACCESS, trust=["renci"], output=output)
    lines = b"\n".join(b'{"url": "https://other.example/in/%d"}' % number for number in range(1_200))
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await user.call("POST", f"{stream}/items?dry_run=1", data=lines, headers=headers)
    assert (answer.status, answer.json["items"], len(answer.json["first"])) == (200, 1_200, 10)
    assert answer.json["first"][1] == {
        "number": 2,
        "input": "https://other.example/in/1",
        "target": "davs://share.example/dav/2/in/1.1-00000000",
        "headers": {
            "davs://share.example/dav/2/in/1.1-00000000": {"X-Project": "render", "Authorization": "secret token"}
        },
    }
    assert TOKEN not in answer.body
    bad = await user.call("POST", f"{stream}/items?dry_run=1", json=[{}])
    assert bad.code == "bad_items"
    assert (await user.ok("GET", f"{stream}/items"))["items"] == []


async def test_a_spec_is_rehearsed_without_being_kept(user: Api) -> None:
    stream = await add_stream(user)
    spec = {"machine": "m", "run": "x", "output": {"files": ["*"], "to": "https://up.example/{input.path}"}}
    told = await user.ok("PUT", f"{stream}?dry_run=1", json=spec)
    assert told["first"][0]["target"] == "https://up.example/in.txt.1-00000000"
    assert (await user.ok("GET", stream))["revision"] == 1
    bad = {**spec, "s3": {"secret": "none"}}
    assert (await user.call("PUT", f"{stream}?dry_run=1", json=bad)).code == "bad_spec"


async def test_a_token_is_negotiated_and_opens_the_upload_to_the_vm_alone(
    user: Api, launcher: Api, labelled: Labelled
) -> None:
    taken: dict[str, tuple[str, bytes]] = {}

    async def negotiate(_: web.Request) -> web.Response:
        return web.Response(text="token-of-the-share")

    async def take(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer token-of-the-share":
            return web.Response(status=401)
        taken[request.path] = (request.headers["X-Project"], await request.read())
        return web.Response(status=201)

    app = web.Application()
    app.add_routes([web.post("/tokens", negotiate), web.put("/in/{path:.+}", take)])
    async with TestServer(app) as share:
        # Plain HTTP: to a loopback address nobody is on the way.
        origin = f"127.0.0.1:{share.port}"
        _, token = await ask("POST", f"http://{origin}/tokens")
        await put(user, "upload", token, "bearer_token")
        access = {origin: {"headers": {"X-Project": "render"}, "secret_headers": {"Authorization": "upload"}}}
        output = {"files": ["*"], "to": f"http://{origin}/in/{{job}}/{{item}}/{{run}}/{{name}}"}
        stream = await add_stream(user, access=access, trust=["renci"], output=output)
        await user.ok("POST", f"{stream}/items", json=[{}])
        dispatched = await labelled("renci").ok("POST", "/v1/dispatch", json=offer())
        guest = launcher.bearing((await claim(launcher, dispatched["ticket"])).json["lease"])
        signed = (await guest.ok("POST", "/v1/lease/urls", json={"outputs": ["out.txt"]}))["outputs"]["out.txt"]
        assert (await ask("PUT", signed["url"], data=RESULT))[0] == 401
        assert (await ask("PUT", signed["url"], data=RESULT, headers=signed["headers"]))[0] == 201
        result = {"name": "out.txt", "size_bytes": len(RESULT), "digest": digest_of(RESULT), "url": signed["target"]}
        await guest.ok("POST", "/v1/lease/complete", json={"outputs": [result], "exit_code": 0})
        path = signed["target"].removeprefix(f"http://{origin}")
        assert taken == {path: ("render", RESULT)}
        answer = await user.call("GET", f"{stream}/items/1/outputs/out.txt", follows=False)
        assert (answer.status, answer.headers["Location"]) == (307, signed["target"])
        assert b"token-of-the-share" not in (await user.call("GET", stream)).body

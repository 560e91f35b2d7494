"""Two users who mean each other harm, on one real broker: neither reads, starves or fills the other."""

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from broker.domain.limits import LIMITS
from broker.domain.scopes import scopes_of_user
from broker.http.routes import DAV, ROUTES
from tests.support.api import IMAGE, XML, Answer, Api, claim, digest_of, offer, put_output
from tests.support.sockets import dialled, head

SMALL = {
    "user_items": 40,
    "user_streams": 5,
    "user_machines": 4,
    "machine_revisions": 6,
    "token_followers": 3,
    "open_uploads": 2,
    "user_bodies": 3,
    "machine_readers": 4,
    "stream_revisions": 3,
    "user_file_bytes": 60_000,
    "user_image_bytes": 10_000,
}
"""Limits, lowered so that they can be reached."""
LOOK_ALIKES = ("alice2", "Alice", "ALICE", "alic", "alice.", "al\u0456ce", "alice\u200b", "a", "..", "alice%2f..", "*")
TUS = {"Tus-Resumable": "1.0.0"}


@dataclass
class Tenant:
    """A user with a canary of their own in everything that they gave the broker, and whatever they were answered."""

    api: Api
    name: str
    answers: list[Answer] = field(default_factory=list)

    @property
    def canary(self) -> str:
        return f"c4nary-of-{self.name}-c4nary"

    @property
    def image(self) -> bytes:
        return IMAGE + self.canary.encode()

    @property
    def stream(self) -> str:
        return f"/v1/streams/{self.name}/render"

    async def call(self, method: str, path: str, **more: Any) -> Answer:
        answer = await self.api.call(method, path, **more)
        self.answers.append(answer)
        return answer

    async def ok(self, method: str, path: str, **more: Any) -> Any:
        answer = await self.call(method, path, **more)
        assert answer.status < 300, (method, path, answer.status, answer.body)
        return answer.json if answer.body else None

    def leaks(self, other: "Tenant") -> list[Answer]:
        """Return the answers in which something of the other's is."""
        return [
            each for each in self.answers if other.canary.encode() in each.body or other.canary in str(each.headers)
        ]


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SMALL.items():
        monkeypatch.setitem(LIMITS, name, LIMITS[name]._replace(default=value))


@pytest.fixture
async def tenants(lowered: None, user: Api, issue: Callable[..., str]) -> AsyncIterator[tuple[Tenant, Tenant]]:
    """Both have an image, a machine, a stream with items, and a file."""
    pair = tuple(Tenant(user.bearing(issue(name, scopes_of_user(name))), name) for name in ("alice", "mallory"))
    for each in pair:
        await _settle_in(each)
    yield pair  # type: ignore[misc] # two of them
    for one, other in (pair, pair[::-1]):
        assert one.leaks(other) == []


async def _settle_in(tenant: Tenant) -> None:
    await tenant.ok("PUT", f"/v1/images/{digest_of(tenant.image)}", data=tenant.image)
    disk = {"digest": digest_of(tenant.image), "size_bytes": len(tenant.image), "format": "raw"}
    xml = XML.replace("<name>m</name>", f"<name>m</name><title>{tenant.canary}</title>")
    await tenant.ok("PUT", f"/v1/machines/{tenant.name}/m", json={"domain_xml": xml, "disks": {"vda": disk}})
    spec = {"machine": "m", "run": "/x", "params": {"secret": tenant.canary}}
    await tenant.ok("PUT", tenant.stream, json=spec)
    items = [{"name": f"{tenant.canary}-{number}", "params": {"a": tenant.canary}} for number in range(3)]
    await tenant.ok("POST", f"{tenant.stream}/items", json=items, headers={"Idempotency-Key": "the-same-key"})
    await tenant.ok("PUT", f"/v1/files/{tenant.name}/kept.txt", data=tenant.canary.encode())


def _addresses(victim: Tenant) -> Iterator[tuple[str, str]]:
    """Yield every address of the API, as the victim's."""
    parts = {"user": victim.name, "job": "render", "name": "m", "number": "1", "reader": "mallory"}
    parts |= {
        "site": "renci",
        "token": "0b0f8f4e-6d5a-4c8e-9b1e-2f6a7d3c9e11",
        "path": "kept.txt",
        "folder": "in",
        "digest": digest_of(victim.image),
        "upload": "0" * 32,
        "callback": f"evt_{'0' * 32}",
    }
    for route in (*ROUTES, *DAV):
        # Nobody's dispatch: those of launchers are asked with a launcher's token, elsewhere.
        yield route.method, route.address.format_map({**parts, "dispatch": "0b0f8f4e-6d5a-4c8e-9b1e-2f6a7d3c9e10"})


async def test_no_address_of_one_is_open_to_the_other(tenants: tuple[Tenant, Tenant]) -> None:
    alice, mallory = tenants
    for method, path in _addresses(alice):
        if alice.name not in path and "/images/" not in path and "/uploads/" not in path:
            continue
        answer = await mallory.call(method, path, data=b"{}" if method in {"PUT", "POST", "PATCH"} else None)
        if (method, path) == ("PUT", f"/v1/images/{digest_of(alice.image)}"):
            assert answer.code == "digest_mismatch", "whoever has the bytes may have them: these are others"
        else:
            assert answer.status in {401, 403, 404, 405, 412}, (method, path, answer)
    for path in ("/v1/streams", "/v1/machines", "/v1/callbacks", "/v1/events", "/v1/users/alice"):
        answer = await mallory.call("GET", path if "users" in path else f"{path}?user=alice")
        assert answer.status in {403, 404}, (path, answer)
    for path in ("/v1/streams", "/v1/machines", "/v1/images", "/v1/uploads", "/v1/launchers", "/v1/launcher-jobs"):
        await mallory.ok("GET", path)
    lines = {"Accept": "application/x-ndjson"}
    assert (await mallory.call("GET", "/v1/events", headers=lines)).status == 200

    assert (await alice.call("GET", "/v1/files/alice/kept.txt")).body == alice.canary.encode()


@pytest.mark.parametrize("name", LOOK_ALIKES)
async def test_a_name_that_looks_like_anothers_is_another_or_none(tenants: tuple[Tenant, Tenant], name: str) -> None:
    _, mallory = tenants
    encoded = "".join(char if char.isascii() else "".join(f"%{byte:02X}" for byte in char.encode()) for char in name)
    for path in (f"/v1/streams/{encoded}/render", f"/v1/machines/{encoded}/m", f"/v1/users/{encoded}"):
        assert (await mallory.call("GET", path)).status in {400, 403, 404}
    for path in ("/v1/streams", "/v1/machines"):
        assert (await mallory.call("GET", f"{path}?user={encoded}")).status in {400, 403, 404}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/mallory/../alice/kept.txt",
        "/v1/files/mallory/..%2Falice%2Fkept.txt",
        "/v1/files/mallory/%2e%2e/alice/kept.txt",
        "/v1/files/mallory/%252e%252e/alice/kept.txt",
        "/v1/files/mallory//alice/kept.txt",
        "/v1/files/mallory%2F..%2Falice/kept.txt",
        "/v1/files//alice/kept.txt",
        "/v1/files/mallory/./../alice/kept.txt",
        "/v1/files/mallory/..%5calice%5ckept.txt",
        "/v1/files/mallory/%00/../alice/kept.txt",
        "/v1/streams/mallory/..%2F..%2Falice%2Frender",
        "/v1/streams/mallory/render/../../alice/render",
        "/v1/streams/mallory/render/items/..%2F..%2F..%2Falice%2Frender%2Fitems%2F1",
        "/v1/machines/mallory/..%2Falice%2Fm",
        "/v1/images/..%2F{digest}",
        "/v1/uploads/..%2F..%2Fimages%2F{digest}",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_no_path_leads_out_of_ones_own(tenants: tuple[Tenant, Tenant], method: str, path: str) -> None:
    alice, mallory = tenants
    forged = path.format(digest=digest_of(alice.image))

    answer = await mallory.call(method, forged, data=b"{}" if method == "PUT" else None)

    # The one that is another file of mallory's own: `%252e` is `%2e`, which means nothing.
    assert answer.status in {400, 403, 404, 405, 412} or (method == "PUT" and "%25" in path), answer
    assert (await alice.call("GET", "/v1/files/alice/kept.txt")).body == alice.canary.encode()


async def test_a_known_digest_opens_no_image_and_no_name_of_a_machine_its_disks(tenants: tuple[Tenant, Tenant]) -> None:
    alice, mallory = tenants
    digest = digest_of(alice.image)
    disk = {"digest": digest, "size_bytes": len(alice.image), "format": "raw"}
    stolen = {"domain_xml": XML, "disks": {"vda": disk}}

    assert (await mallory.call("GET", f"/v1/images/{digest}")).status == 404
    assert (await mallory.call("HEAD", f"/v1/images/{digest}")).status == 404
    assert (await mallory.call("DELETE", f"/v1/images/{digest}")).status == 404
    assert (await mallory.call("PUT", "/v1/machines/mallory/stolen", json=stolen)).code == "image_missing"
    spec = {"machine": "alice/m", "run": "/x"}
    assert (await mallory.call("PUT", "/v1/streams/mallory/stolen", json=spec)).code == "bad_spec"
    assert (await mallory.call("PUT", "/v1/machines/alice/m/readers/mallory")).status in {403, 404}
    item = [{"url": "file:alice/kept.txt"}]
    assert (await mallory.call("POST", f"{mallory.stream}/items", json=item)).code == "bad_items"


async def test_what_one_guest_holds_opens_nothing_of_the_others(tenants: tuple[Tenant, Tenant], launcher: Api) -> None:
    alice, mallory = tenants
    held = {}
    for _ in range(2):
        dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
        held[dispatched["item"].partition("/")[0]] = (await claim(launcher, dispatched["ticket"])).json
    guest = Tenant(launcher.bearing(held["mallory"]["lease"]), "mallory")
    victim = launcher.bearing(held["alice"]["lease"])
    signed = (await victim.ok("POST", "/v1/lease/urls", json={"outputs": ["out.txt"]}))["outputs"]["out.txt"]

    own = await put_output(guest.api, b"x")
    stolen = {**own, "url": signed["target"]}
    assert (await guest.call("POST", "/v1/lease/complete", json={"outputs": [stolen]})).code == "output_not_verified"
    for name in ("../../alice/x", "/alice/x", "..%2f..%2falice"):
        answer = await guest.call("POST", "/v1/lease/urls", json={"outputs": [name]})
        assert answer.code == "bad_request"
    for method in ("GET", "DELETE", "POST"):
        assert (await guest.call(method, signed["url"])).status in {401, 403, 405}
    moved = signed["url"].replace("/files/alice/", "/files/mallory/")
    assert (await guest.call("PUT", moved, data=b"x")).status == 403
    forged = held["mallory"]["lease"].replace(".mallory/", ".alice/")
    assert (await guest.api.bearing(forged).call("POST", "/v1/lease/extend", json={})).status in {401, 404, 409}
    for token in (held["alice"]["lease"], signed["url"].rpartition("=")[2]):
        assert (await mallory.api.bearing(token).call("GET", alice.stream)).status == 401
    assert guest.leaks(alice) == []
    assert (await victim.call("POST", "/v1/lease/extend", json={})).status == 200, "alice's goes on"


async def test_one_who_takes_all_that_may_be_had_is_told_and_the_other_goes_on(
    tenants: tuple[Tenant, Tenant], launcher: Api
) -> None:
    alice, mallory = tenants
    full = await _fill_disk(mallory)
    async with AsyncExitStack() as stack:
        for _ in range(SMALL["user_bodies"]):
            line = await stack.enter_async_context(dialled(mallory.api.url))
            await line.send(head("PUT", "/v1/files/mallory/slow", mallory.api.token, Content_Length="9") + b"x")
        for _ in range(SMALL["token_followers"]):
            await stack.enter_async_context(mallory.api.stream("/v1/events"))
        refused = full | await _fill(mallory)
        assert set(refused) == {
            "too_many_followers",
            "too_many_uploads",
            "too_many_bodies",
            "quota_exceeded of items",
            "quota_exceeded of streams",
            "quota_exceeded of machines",
            "quota_exceeded of revisions",
            "quota_exceeded of specs",
            "quota_exceeded of files",
            "quota_exceeded of images",
            "quota_exceeded of uploads",
            "bad_request of readers",
        }
        assert all(said.json["detail"] and said.status in {400, 409, 429} for said in refused.values())

        await alice.ok("POST", f"{alice.stream}/items", json=[{"name": f"more-{number}"} for number in range(3)])
        await alice.ok("PUT", "/v1/files/alice/more", data=b"x")
        await _settle_in(alice)
        await alice.ok("PUT", "/v1/streams/alice/more", json={"machine": "m", "run": "/x"})
        upload = {**TUS, "Upload-Length": "9", "Upload-Metadata": _metadata(b"alice")}
        assert (await alice.call("POST", "/v1/uploads", headers=upload)).status == 201
        async with alice.api.stream("/v1/events") as following:
            assert following.status == 200
        given = [(await launcher.ok("POST", "/v1/dispatch", json=offer()))["item"] for _ in range(4)]
        assert sorted(item.partition("/")[0] for item in given) == ["alice", "alice", "mallory", "mallory"], given


async def _fill_disk(mallory: Tenant) -> dict[str, Answer]:
    """Send more than there is room for, announced and not, until nothing is taken; then leave room for a file."""
    seen: dict[str, Answer] = {}
    for number in range(SMALL["user_file_bytes"] // 4_096 + 1):
        answer = await mallory.call("PUT", f"/v1/files/mallory/empty{number}", data=b"")
        if answer.status >= 400:
            seen[f"{answer.code} of files"] = answer
            break
    for number in range(2):
        image = f"{mallory.canary}{number}".encode() * 200
        answer = await mallory.call("PUT", f"/v1/images/{digest_of(image)}", data=image)
        if answer.status >= 400:
            seen[f"{answer.code} of images"] = answer
    upload = {**TUS, "Upload-Length": "9999", "Upload-Metadata": _metadata(b"large")}
    answer = await mallory.call("POST", "/v1/uploads", headers=upload)
    seen[f"{answer.code} of uploads"] = answer
    for number in range(5):
        await mallory.ok("DELETE", f"/v1/files/mallory/empty{number}")
    return seen


async def _fill(mallory: Tenant) -> dict[str, Answer]:
    """Ask for more of everything, until nothing is given; return the refusals."""
    seen: dict[str, Answer] = {}

    async def ask(what: str, most: int, method: str, path: str, **more: Any) -> None:
        for number in range(most + 1):
            filled = json.loads(json.dumps(more).replace("NUMBER", str(number)))
            answer = await mallory.call(method, path.replace("NUMBER", str(number)), **filled)
            if answer.status >= 400:
                seen[f"{answer.code}{what}"] = answer
                return

    spec = {"machine": "m", "run": "/x"}
    key = {"Idempotency-Key": "key-NUMBER"}
    await ask(" of items", SMALL["user_items"], "POST", f"{mallory.stream}/items", json=[{}], headers=key)
    runs = {**spec, "run": "/xNUMBER"}
    await ask(" of specs", SMALL["stream_revisions"], "PUT", mallory.stream, json=runs)
    await ask(" of streams", SMALL["user_streams"], "PUT", "/v1/streams/mallory/sNUMBER", json=spec)
    disk = {"digest": digest_of(mallory.image), "size_bytes": len(mallory.image), "format": "raw"}
    machine = {"domain_xml": XML.replace("<name>m<", "<name>mNUMBER<"), "disks": {"vda": disk}}
    path = "/v1/machines/mallory"
    await ask(" of machines", SMALL["user_machines"], "PUT", f"{path}/mNUMBER", json=machine)
    await ask(" of revisions", SMALL["machine_revisions"], "PUT", f"{path}/m", json=machine)
    await ask(" of readers", SMALL["machine_readers"], "PUT", "/v1/machines/mallory/m/readers/rNUMBER")
    await ask("", 1, "GET", "/v1/events")
    for number in range(SMALL["open_uploads"] + 1):
        upload = {**TUS, "Upload-Length": "9", "Upload-Metadata": _metadata(str(number).encode())}
        answer = await mallory.call("POST", "/v1/uploads", headers=upload)
        if answer.status >= 400:
            seen[answer.code] = answer
    answer = await mallory.call("PUT", "/v1/files/mallory/one-more", data=b"x")
    seen[answer.code] = answer
    return seen


async def test_a_flood_of_one_leaves_every_second_dispatch_to_the_other(
    tenants: tuple[Tenant, Tenant], launcher: Api
) -> None:
    _alice, mallory = tenants
    await mallory.ok("POST", f"{mallory.stream}/items", json=[{"priority": "high"}] * (SMALL["user_items"] - 3))
    # Until a vm of each has claimed, at most two of a stream go. None ends: a share is what vms took, not their count.
    first = [await launcher.ok("POST", "/v1/dispatch", json=offer(launcher=f"f{each}")) for each in range(2)]
    assert {dispatched["item"].partition("/")[0] for dispatched in first} == {"alice", "mallory"}
    for dispatched in first:
        assert (await claim(launcher, dispatched["ticket"])).status == 200

    given = [(await launcher.ok("POST", "/v1/dispatch", json=offer(launcher=f"w{each}")))["item"] for each in range(4)]

    assert sum(item.startswith("alice/") for item in given) == 2, "all that alice has, though mallory has 39"


async def test_a_key_of_one_is_no_key_of_the_others(tenants: tuple[Tenant, Tenant]) -> None:
    for each in tenants:
        reused = await each.call("POST", f"{each.stream}/items", json=[{}], headers={"Idempotency-Key": "the-same-key"})
        assert reused.code == "key_reused"
        view = await each.ok("GET", each.stream)
        assert view["counts"]["ready"] == 3


def _metadata(content: bytes) -> str:
    return f"digest {base64.b64encode(digest_of(content).encode()).decode()}"

import base64
import errno
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from broker.files.tails import Tails
from tests.integration.http.conftest import Grid
from tests.support.api import IMAGE, Answer, Api, add_stream, claim, digest_field, digest_of, offer, put_output
from tests.support.waiting import until


async def test_an_item_goes_all_its_way_by_plain_http_calls(user: Api, launcher: Api) -> None:
    stream = await add_stream(user, run="/opt/app/run {input} {output}", network=["licence.example:27000"])
    await user.ok("PUT", "/v1/files/alice/in/frame.txt", data=b"the input")
    item = {"url": "file:alice/in/frame.txt", "name": "frame", "params": {"seed": "7"}}
    pushed = await user.ok("POST", f"{stream}/items", json=[item])
    assert pushed == {"stream": "alice/render", "accepted": 1, "first": 1, "last": 1, "durability": "fsync"}

    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    assert dispatched["item"] == "alice/render/1"
    broker_origin = launcher.url.removeprefix("http://")
    assert dispatched["origins"] == [broker_origin, "licence.example:27000"]
    disk = dispatched["disks"]["vda"]
    assert (await launcher.bearing(None).call("GET", disk["url"])).body == IMAGE
    path = f"/v1/dispatches/{dispatched['dispatch']}"
    for phase in ("preparing", "prepared", "booting", "started"):
        told = await launcher.ok("POST", f"{path}/events", json={"launcher": "l1", "phase": phase})
        assert (told["instruction"], told["state"]) == ("continue", "dispatched")

    claimed = (await claim(launcher, dispatched["ticket"])).json
    assert claimed["input"] == {"name": "frame.txt", "url": "file:alice/in/frame.txt"}
    assert claimed["params"] == {"seed": "7"}
    guest = launcher.bearing(claimed["lease"])
    urls = await guest.ok("POST", "/v1/lease/urls", json={})
    assert (await guest.bearing(None).call("GET", urls["input"]["url"])).body == b"the input"
    assert (await guest.ok("POST", "/v1/lease/extend", json={"progress": "half"}))["instruction"] == "continue"
    output = await put_output(guest, b"the result")
    assert output["url"] == f"file:alice/render/1/1-{dispatched['dispatch'][:8]}/out.txt"
    completion = {"outputs": [output], "exit_code": 0, "log": base64.b64encode(b"all good\n").decode()}
    settled = await guest.ok("POST", "/v1/lease/complete", json=completion)
    assert settled == {"item": "alice/render/1", "state": "done"}
    assert await guest.ok("POST", "/v1/lease/complete", json=completion) == settled, "a retry gets the same answer"
    end = {"launcher": "l1", "verdict": "completed", "sentence": "", "console": base64.b64encode(b"power off").decode()}
    ended = await launcher.ok("POST", f"{path}/end", json=end)
    assert ended == {"verdict": "completed", "state": "done", "machine_claimed": True}

    line = json.loads((await user.call("GET", f"{stream}/results")).body)
    assert (line["item"], line["state"], line["exit_code"]) == ("alice/render/1", "done", 0)
    [result] = line["outputs"]
    assert (result["name"], result["size_bytes"], result["digest"]) == ("out.txt", 10, digest_of(b"the result"))
    downloaded = await user.call("GET", result["url"])
    assert downloaded.body == b"the result"
    assert downloaded.headers["Repr-Digest"] == digest_field(b"the result")
    view = await user.ok("GET", f"{stream}/items/1")
    assert list(view["vm"]["phases"]) == ["preparing", "prepared", "booting", "started", "claimed", "ended"]
    assert (await user.call("GET", f"{stream}/items/1/log")).body == b"all good\n"
    assert (await user.call("GET", f"{stream}/items/1/console")).body == b"power off"


@pytest.mark.parametrize(
    ("spec", "item"),
    [
        ({"inputs": {"more": "https://h.example/more"}}, {}),
        ({}, {"inputs": {"more": "https://h.example/more"}}),
        ({"output": {"files": ["*"], "to": "davs://h.example/out/{job}/{name}"}}, {}),
        ({"plugins": {"osdf": "/usr/libexec/osdf"}}, {"url": "osdf:///ospool/a"}),
    ],
)
async def test_a_client_that_would_do_half_of_an_item_gets_none_of_it(
    user: Api, launcher: Api, spec: dict[str, Any], item: dict[str, Any]
) -> None:
    stream = await add_stream(user, **spec)
    await user.ok("POST", f"{stream}/items", json=[item])
    given = await launcher.ok("POST", "/v1/dispatch", json=offer())

    assert (await claim(launcher, given["ticket"], takes_inputs=False)).code == "client_too_old"

    view = await user.ok("GET", f"{stream}/items/1")
    assert (view["state"], view["reason"]["code"]) == ("held", "client_too_old")
    await user.ok("POST", f"{stream}/resume")
    await user.ok("POST", f"{stream}/items/1/release")
    again = await launcher.ok("POST", "/v1/dispatch", json=offer())
    assert (await claim(launcher, again["ticket"])).status == 200


async def test_a_completion_is_refused_unless_its_outputs_are_there_as_described(user: Api, launcher: Api) -> None:
    guest = await _guest_of_a_new_item(user, launcher)
    output = await put_output(guest, b"the result")
    other_place = {**output, "url": "file:alice/in/out.txt"}

    async def complete(**changed: object) -> Answer:
        return await guest.call("POST", "/v1/lease/complete", json={"outputs": [{**output, **changed}]})

    missing = {**output, "name": "missing.txt", "url": output["url"].replace("out.txt", "missing.txt")}
    for described in (missing, other_place, {**output, "size_bytes": 3}, {**output, "digest": digest_of(b"else")}):
        assert (await complete(**described)).code == "output_not_verified"
    assert (await complete()).status == 200


async def test_a_lease_cannot_be_used_by_who_only_knows_the_item(user: Api, launcher: Api) -> None:
    guest = await _guest_of_a_new_item(user, launcher)
    assert guest.token is not None
    forged = guest.token[:-4] + ("AAAA" if not guest.token.endswith("AAAA") else "BBBB")

    answer = await guest.bearing(forged).call("POST", "/v1/lease/urls", json={})

    assert answer.code == "lease_lost"


async def test_a_lease_token_whose_fence_was_changed_is_worth_nothing(user: Api, launcher: Api) -> None:
    guest = await _guest_of_a_new_item(user, launcher)
    output = await put_output(guest, b"the result")
    assert guest.token is not None
    assert "alice/render/1.1." in guest.token
    forger = guest.bearing(guest.token.replace("alice/render/1.1.", "alice/render/1.2."))

    for call, body in (
        ("urls", {"outputs": ["out.txt"]}),
        ("extend", {}),
        ("complete", {"outputs": [output]}),
        ("fail", {"code": "program_failed", "sentence": "no"}),
    ):
        assert (await forger.call("POST", f"/v1/lease/{call}", json=body)).code == "lease_lost", call
    assert (await guest.ok("POST", "/v1/lease/complete", json={"outputs": [output]}))["state"] == "done"


@pytest.mark.parametrize("exit_code", [256, -256, 10**15, 10**30])
async def test_an_exit_code_that_no_program_has_is_refused(user: Api, launcher: Api, exit_code: int) -> None:
    guest = await _guest_of_a_new_item(user, launcher)

    completed = await guest.call("POST", "/v1/lease/complete", json={"outputs": [], "exit_code": exit_code})
    failure = {"code": "program_failed", "sentence": "it failed", "exit_code": exit_code}
    failed = await guest.call("POST", "/v1/lease/fail", json=failure)

    assert (completed.code, failed.code) == ("bad_request", "bad_request")
    assert (await guest.ok("POST", "/v1/lease/extend", json={}))["instruction"] == "continue"


async def test_outputs_at_other_servers_are_described_as_outputs_can_be(user: Api, launcher: Api) -> None:
    stream = await add_stream(user, output={"to": "https://up.example/{item}/{run}/{name}"})
    await user.ok("POST", f"{stream}/items", json=[{}])
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    guest = launcher.bearing((await claim(launcher, dispatched["ticket"])).json["lease"])
    url = f"https://up.example/1/1-{dispatched['dispatch'][:8]}/out.txt"
    output = {"name": "out.txt", "size_bytes": 3, "digest": digest_of(b"abc"), "url": url}

    for wrong in ({"size_bytes": -5}, {"size_bytes": -(10**30)}, {"digest": "junk"}, {"digest": "sha256:" + "G" * 64}):
        answer = await guest.call("POST", "/v1/lease/complete", json={"outputs": [{**output, **wrong}]})
        assert answer.code == "bad_request", wrong

    assert (await guest.ok("POST", "/v1/lease/complete", json={"outputs": [output]}))["state"] == "done"


async def test_a_log_that_cannot_be_kept_costs_no_result(
    user: Api, launcher: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Tails, "keep_log", no_space)
    guest = await _guest_of_a_new_item(user, launcher)

    settled = await guest.ok("POST", "/v1/lease/complete", json={"outputs": [], "log": "aGk="})

    assert settled == {"item": "alice/render/1", "state": "done"}


async def test_a_failure_said_again_does_not_replace_the_log_of_a_later_attempt(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])
    guests = []
    for log in (b"first", b"second"):
        dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
        guests.append(launcher.bearing((await claim(launcher, dispatched["ticket"])).json["lease"]))
        await guests[-1].ok("POST", "/v1/lease/extend", json={})
        assert await _give_back(guests[-1], log) == "ready"

    await _give_back(guests[1], b"second, again")
    assert (await user.call("GET", f"{stream}/items/1/log")).body == b"second, again"
    await launcher.ok("POST", "/v1/dispatch", json=offer())
    await _give_back(guests[1], b"too late")

    assert (await user.call("GET", f"{stream}/items/1/log")).body == b"second, again"


async def _give_back(guest: Api, log: bytes) -> str:
    said = base64.b64encode(log).decode()
    body = {"code": "program_failed", "sentence": "not now", "exit_code": 75, "log": said}
    return str((await guest.ok("POST", "/v1/lease/fail", json=body))["state"])


async def test_a_ticket_used_from_elsewhere_costs_the_lease_and_gives_nothing(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    first = await claim(launcher, dispatched["ticket"], "k" * 43)
    assert (await claim(launcher, dispatched["ticket"], "k" * 43)).json == first.json, "the same guest may ask again"

    stolen = await claim(launcher, dispatched["ticket"], "e" * 43)

    assert stolen.code == "ticket_replayed"
    guest = launcher.bearing(first.json["lease"])
    assert (await guest.call("POST", "/v1/lease/extend", json={})).code == "lease_lost"
    assert (await claim(launcher, dispatched["ticket"], "k" * 43)).code == "ticket_spent"


async def test_a_broker_started_again_goes_on_with_items_tokens_and_leases(
    start: Callable[[], AbstractAsyncContextManager[Grid]],
) -> None:
    async with start() as (user, launcher):
        guest = await _guest_of_a_new_item(user, launcher)
        output = await put_output(guest, b"before the restart")

    async with start() as (fresh_user, _):
        old_user = fresh_user.bearing(user.token)
        assert (await old_user.ok("GET", "/v1/streams/alice/render"))["counts"]["running"] == 1
        guest = fresh_user.bearing(guest.token)
        assert (await guest.ok("POST", "/v1/lease/extend", json={}))["instruction"] == "continue"
        settled = await guest.ok("POST", "/v1/lease/complete", json={"outputs": [output]})
        assert settled["state"] == "done"


async def test_a_late_completion_is_looked_at_like_any_other(
    start: Callable[[], AbstractAsyncContextManager[Grid]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"HEARTBEAT_S": "1", "LEASE_S": "3", "LAUNCHER_GRACE_S": "3"}.items():
        monkeypatch.setenv(f"VMBROKER_BROKER_{name}", seconds)
    async with start() as (user, launcher):
        guest = await _guest_of_a_new_item(user, launcher)
        output = await put_output(guest, b"the result")

        async def has_expired() -> bool:
            return bool((await user.ok("GET", "/v1/streams/alice/render"))["counts"]["running"] == 0)

        await until(has_expired, "the silent guest's lease expires", timeout_s=30)

        wrong = {**output, "digest": digest_of(b"something else")}
        refused = await guest.call("POST", "/v1/lease/complete", json={"outputs": [wrong]})
        assert refused.code == "output_not_verified"
        assert (await guest.ok("POST", "/v1/lease/complete", json={"outputs": [output]}))["state"] == "done"


async def _guest_of_a_new_item(user: Api, launcher: Api) -> Api:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    return launcher.bearing((await claim(launcher, dispatched["ticket"])).json["lease"])

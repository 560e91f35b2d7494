import json
from collections.abc import Callable

import pytest

from broker.domain.limits import LIMITS
from broker.domain.scopes import scopes_of_user
from tests.support.api import Api, add_machine, add_stream

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
async def items(user: Api) -> str:
    return f"{await add_stream(user)}/items"


async def test_the_same_push_again_adds_nothing(user: Api, items: str) -> None:
    key = {"Idempotency-Key": "k/0"}
    first = await user.call("POST", items, json=[{}, {}], headers=key)

    again = await user.call("POST", items, json=[{}, {}], headers=key)
    other = await user.call("POST", items, json=[{}], headers=key)

    assert "repeated" not in first.json
    assert again.json == {**first.json, "repeated": True}
    assert other.code == "key_reused"
    assert (await user.ok("GET", "/v1/streams/alice/render"))["counts"]["ready"] == 2


async def test_the_same_push_again_is_answered_though_it_would_be_refused_by_now(user: Api, items: str) -> None:
    await user.ok("PUT", "/v1/files/alice/in.txt", data=b"x")
    push = {"json": [{"url": "file:alice/in.txt"}], "headers": {"Idempotency-Key": "k"}}
    first = await user.ok("POST", items, **push)
    await user.ok("DELETE", "/v1/files/alice/in.txt")

    again = await user.ok("POST", items, **push)

    assert again == {**first, "repeated": True}


async def test_lines_and_an_array_push_the_same(user: Api, items: str) -> None:
    lines = b'{"params": {"seed": "1"}}\n\n{"params": {"seed": "2"}}\n'
    assert (await user.ok("POST", items, data=lines, headers=NDJSON))["accepted"] == 2
    await user.ok("POST", items, json=[{"params": {"seed": "3"}}])

    page = await user.ok("GET", f"{items}?state=ready&limit=2")
    rest = await user.ok("GET", f"{items}?state=ready&limit=2&cursor={page['next_cursor']}")

    assert [item["params"]["seed"] for item in page["items"] + rest["items"]] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"url": "ftp://host/x"}, "no address that a guest can fetch"),
        ({"url": "http://host:99999/x"}, "its host or port is none"),
        ({"url": "http://host:0/x"}, "its host or port is none"),
        ({"url": "http://./x"}, "its host or port is none"),
        ({"url": "https://me:secret@host/x"}, "user or password"),
        ({"url": "file:alice/../bob/x"}, "'..' is refused"),
        ({"url": "file:alice/in/missing"}, "no file file:alice/in/missing, or you may not read it"),
        ({"url": "file:bob/x"}, "no file file:bob/x, or you may not read it"),
        ({"params": {"bad name": "x"}}, "no parameter's name"),
        ({"params": {"x": "y" * 70_000}}, "parameters take"),
        ({"uri": "https://host/x"}, "unknown field `uri`"),
    ],
)
async def test_a_bad_line_is_named_and_nothing_of_the_push_is_accepted(
    user: Api, items: str, line: dict[str, object], reason: str
) -> None:
    body = b"{}\n" + json.dumps(line).encode() + b"\n"

    answer = await user.call("POST", items, data=body, headers=NDJSON)

    assert answer.code == "bad_items"
    [refusal] = answer.json["refusals"]
    assert refusal["line"] == "2"
    assert reason in refusal["reason"]
    assert sum((await user.ok("GET", "/v1/streams/alice/render"))["counts"].values()) == 0


async def test_a_push_lacks_no_parameter_and_no_input_that_the_run_line_names(user: Api) -> None:
    stream = await add_stream(user, run="/opt/app/run {input} --seed {param.seed}")

    answer = await user.call("POST", f"{stream}/items", json=[{}])

    assert answer.code == "bad_items"
    reasons = " ".join(refusal["reason"] for refusal in answer.json["refusals"])
    assert "{input}" in reasons
    assert "'seed'" in reasons


async def test_more_than_one_chunk_is_too_much_for_one_push(user: Api, items: str) -> None:
    assert (await user.call("POST", items, json=[{}] * 501)).code == "too_large"
    assert (await user.call("POST", items, json=[])).code == "bad_request"
    assert (await user.ok("POST", items, json=[{}] * 500))["last"] == 500


def _lines(*bad: int, count: int = 1_201) -> bytes:
    good = [b'{"url":"https://h.example/%d"}\n' % number for number in range(1, count + 1)]
    for number in bad:
        good[number - 1] = b"{nonsense\n"
    return b"".join(good)


async def test_lines_of_any_number_are_taken_part_by_part_and_told_how_far(user: Api) -> None:
    stream = await add_stream(user)
    headers = NDJSON | {"Idempotency-Key": "k"}

    refused = await user.call("POST", f"{stream}/items", data=_lines(701, 703), headers=headers)

    assert (refused.status, refused.code) == (422, "bad_items")
    assert (refused.json["accepted_lines"], refused.json["next_line"]) == (500, 501)
    assert [each["line"] for each in refused.json["refusals"]] == ["701", "703"]
    again = await user.ok("POST", f"{stream}/items", data=_lines(), headers=headers)
    assert (again["accepted"], again["first"], again["last"], again.get("repeated", False)) == (1_201, 1, 1_201, False)
    assert (await user.ok("GET", stream))["counts"]["ready"] == 1_201
    assert (await user.ok("POST", f"{stream}/items", data=_lines(), headers=headers))["repeated"] is True


async def test_bad_lines_are_left_out_where_that_is_asked_for_and_named(
    user: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await add_stream(user)
    headers = NDJSON | {"Idempotency-Key": "k"}

    for is_again in (False, True):
        said = await user.ok("POST", f"{stream}/items?skip_bad=1", data=_lines(3, 700, count=900), headers=headers)
        assert (said["accepted"], [each["line"] for each in said["refused"]]) == (898, ["3", "700"])
        assert said.get("repeated", False) is is_again
    only_bad = await user.ok(
        "POST", f"{stream}/items?skip_bad=1", data=b"{\n", headers=headers | {"Idempotency-Key": "b"}
    )
    assert (only_bad["accepted"], len(only_bad["refused"])) == (0, 1)
    monkeypatch.setitem(LIMITS, "push_refused", LIMITS["push_refused"]._replace(default=1))
    too_many = await user.call("POST", f"{stream}/items?skip_bad=1", data=_lines(3, 700, count=900), headers=NDJSON)
    assert (too_many.code, too_many.json["next_line"]) == ("bad_items", 501)


async def test_a_push_that_was_accepted_is_answered_again_whatever_became_of_its_machine(
    user: Api, issue: Callable[..., str]
) -> None:
    await add_machine(user)
    await user.ok("PUT", "/v1/machines/alice/m/readers/bob")
    bob = user.bearing(issue("bob", scopes_of_user("bob")))
    await bob.ok("PUT", "/v1/streams/bob/work", json={"machine": "alice/m", "run": "/opt/app/run"})
    first = await bob.ok("POST", "/v1/streams/bob/work/items", json=[{}], headers={"Idempotency-Key": "k"})
    await user.ok("DELETE", "/v1/machines/alice/m/readers/bob")

    again = await bob.ok("POST", "/v1/streams/bob/work/items", json=[{}], headers={"Idempotency-Key": "k"})

    assert again == {**first, "repeated": True}
    assert (await bob.call("POST", "/v1/streams/bob/work/items", json=[{}])).code == "bad_spec"


async def test_a_push_is_not_refused_for_the_machine_of_an_earlier_spec(user: Api, issue: Callable[..., str]) -> None:
    await add_machine(user)
    await user.ok("PUT", "/v1/machines/alice/m/readers/bob")
    await add_machine(user, "other")
    await user.ok("PUT", "/v1/machines/alice/other/readers/bob")
    bob = user.bearing(issue("bob", scopes_of_user("bob")))
    spec = {"machine": "alice/m", "run": "/opt/app/run"}
    await bob.ok("PUT", "/v1/streams/bob/work", json=spec)
    await bob.ok("POST", "/v1/streams/bob/work/items", json=[{}])
    await bob.ok("PUT", "/v1/streams/bob/work", json={**spec, "machine": "alice/other"})
    await user.ok("DELETE", "/v1/machines/alice/m/readers/bob")

    assert (await bob.ok("POST", "/v1/streams/bob/work/items", json=[{}]))["accepted"] == 1


async def test_blank_lines_are_counted_and_no_items(user: Api) -> None:
    stream = await add_stream(user)
    said = await user.ok("POST", f"{stream}/items", data=b'\n{}\n\n{"url": "https://h.example/1"}', headers=NDJSON)
    assert said["accepted"] == 2
    refused = await user.call("POST", f"{stream}/items", data=b'{}\n\n{"url": "no scheme"}', headers=NDJSON)
    assert [each["line"] for each in refused.json["refusals"]] == ["3"]


async def test_a_push_may_go_up_in_requests_of_several_parts_each_under_its_own_key(user: Api) -> None:
    stream = await add_stream(user)
    push, lines = f"{stream}/items", _lines().splitlines(keepends=True)
    second = b"".join(lines[500:1000])
    alone = await user.ok("POST", push, data=second, headers=NDJSON | {"Idempotency-Key": "k/1"})

    said = await user.ok("POST", f"{push}?part=0", data=_lines(), headers=NDJSON | {"Idempotency-Key": "k"})
    first = await user.ok("POST", push, data=b"".join(lines[:500]), headers=NDJSON | {"Idempotency-Key": "k/0"})
    rest = await user.ok(
        "POST", f"{push}?part=2", data=b"".join(lines[1000:]), headers=NDJSON | {"Idempotency-Key": "k"}
    )

    assert (alone["first"], alone["last"]) == (1, 500)
    assert (said["accepted"], said["before"], said.get("repeated", False)) == (1_201, 500, False)
    assert (first["first"], first["last"], first["repeated"]) == (501, 1000, True)
    assert (rest["first"], rest["last"], rest["repeated"]) == (1001, 1201, True)
    assert (await user.ok("GET", stream))["counts"]["ready"] == 1_201


@pytest.mark.parametrize("part", ["", "-1", "x", "1000000000", "%D9%A1"])
async def test_the_number_of_a_part_is_a_whole_one(user: Api, items: str, part: str) -> None:
    assert (await user.call("POST", f"{items}?part={part}", json=[{}])).code == "bad_request"


async def test_parts_after_a_refused_one_are_not_pushed(user: Api) -> None:
    stream = await add_stream(user)
    key = NDJSON | {"Idempotency-Key": "k/1"}
    await user.ok("POST", f"{stream}/items", data=b'{"url":"https://h.example/other"}\n', headers=key)

    refused = await user.call("POST", f"{stream}/items", data=_lines(), headers=NDJSON | {"Idempotency-Key": "k"})

    assert refused.code == "key_reused"
    assert (await user.ok("GET", stream))["counts"]["ready"] == 501


async def test_items_are_numbered_in_the_order_of_their_lines_over_all_parts(user: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", data=_lines(), headers=NDJSON)

    for number in (1, 500, 501, 1000, 1001, 1201):
        assert (await user.ok("GET", f"{stream}/items/{number}"))["url"] == f"https://h.example/{number}"

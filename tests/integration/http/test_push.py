import json

import pytest

from tests.support.api import Api, add_stream

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

"""The launcher in its guest's place, with a real broker: what the guest left becomes its result or failure."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.client.session import Session
from broker.wire.dispatches import DispatchAnswer, StagedItem
from broker.wire.states import Verdict
from launcher.exchange.outputs import harvest_folder
from launcher.node.stand_in import StandIn
from launcher.node.verdicts import Ending
from tests.support.api import Api, add_stream, digest_of, offer

CONTENT = b"the output"


async def dispatched(user: Api, launcher: Api, exchange: str = "disk") -> tuple[DispatchAnswer, StagedItem]:
    """Push an item with an input to a stream of this exchange; return it as its launcher gets it."""
    needs: dict[str, Any] = {"exchange": exchange}
    stream = await add_stream(user, run="/opt/app/run {input}", needs=needs, params={"a": "stream", "b": "stream"})
    await user.ok("PUT", "/v1/files/alice/in/frame.txt", data=b"the input")
    item = {"url": "file:alice/in/frame.txt", "params": {"b": "item"}}
    await user.ok("POST", f"{stream}/items", json=[item])
    answer = await launcher.call("POST", "/v1/dispatch", json=offer(exchanges=["network", exchange]))
    given = msgspec.json.decode(answer.body, type=DispatchAnswer)
    assert given.staged is not None
    return given, given.staged


async def not_asked() -> StagedItem | None:
    raise AssertionError("the addresses are fresh")


def left_behind(folder: Path, result: str, content: bytes = CONTENT) -> Path:
    (folder / "output").mkdir()
    (folder / "output" / "a.txt").write_bytes(content)
    (folder / "result.json").write_text(result)
    (folder / "log").write_bytes(b"words of the program")
    return folder


async def deliver(user: Api, answer: DispatchAnswer, staged: StagedItem, out: Path) -> Ending | None:
    async with Session(user.url) as session:
        stand_in = StandIn(session, answer, staged, client="1.0", renew=not_asked)
        assert await stand_in.claim() is None
        return await stand_in.deliver(harvest_folder(out, staged))


async def item_of(user: Api) -> dict[str, Any]:
    item: dict[str, Any] = await user.ok("GET", "/v1/streams/alice/render/items/1")
    return item


async def test_who_cannot_do_the_exchange_is_not_given_the_item(user: Api, launcher: Api) -> None:
    stream = await add_stream(user, needs={"exchange": "shared"})
    await user.ok("POST", f"{stream}/items", json=[{}])

    assert (await launcher.call("POST", "/v1/dispatch", json=offer())).status == 204
    assert (await launcher.call("POST", "/v1/dispatch", json=offer(exchanges=["shared"]))).status == 200


async def test_a_dispatch_without_a_network_brings_all_that_the_guest_cannot_ask_for(
    user: Api, launcher: Api, tmp_path: Path
) -> None:
    answer, staged = await dispatched(user, launcher)

    assert (answer.exchange, answer.origins) == ("disk", [])
    assert (staged.run, staged.input_name) == ("/opt/app/run {input}", "frame.txt")
    assert staged.params == {"a": "stream", "b": "item"}
    async with Session(user.url) as session:
        await StandIn(session, answer, staged, client="", renew=not_asked).fetch_input(tmp_path / "in", 1_000)
    assert (tmp_path / "in").read_bytes() == b"the input"


async def test_an_input_whose_address_grew_old_is_fetched_by_a_new_one(
    user: Api, launcher: Api, tmp_path: Path
) -> None:
    answer, staged = await dispatched(user, launcher)
    assert staged.input is not None
    forged = msgspec.structs.replace(staged.input, url=f"{staged.input.url}0")
    old = msgspec.structs.replace(staged, input=forged)

    async def renew() -> StagedItem | None:
        return staged

    async with Session(user.url) as session:
        await StandIn(session, answer, old, client="", renew=renew).fetch_input(tmp_path / "in", 1_000)
    assert (tmp_path / "in").read_bytes() == b"the input"


async def test_a_result_is_uploaded_and_completes_the_item(user: Api, launcher: Api, tmp_path: Path) -> None:
    answer, staged = await dispatched(user, launcher)
    listed = f'{{"name": "a.txt", "size_bytes": {len(CONTENT)}, "digest": "{digest_of(CONTENT)}"}}'

    ending = await deliver(
        user, answer, staged, left_behind(tmp_path, f'{{"exit_code": 0, "outputs": [{listed}], "facts": {{"x": "y"}}}}')
    )

    assert ending is not None
    assert ending.verdict is Verdict.COMPLETED
    item = await item_of(user)
    assert item["state"] == "done"
    assert (item["outputs"][0]["name"], item["outputs"][0]["digest"]) == ("a.txt", digest_of(CONTENT))
    assert (item["vm"]["facts"]["exchange"], item["vm"]["facts"]["x"]) == ("disk", "y")
    log = await user.call("GET", "/v1/streams/alice/render/items/1/log")
    assert log.body == b"words of the program"


@pytest.mark.parametrize(
    ("result", "state", "code"),
    [
        ('{"exit_code": 3}', "delayed", "program_failed"),
        ('{"exit_code": null, "code": "program_missing", "sentence": "gone"}', "delayed", "program_missing"),
        ('{"exit_code": 0, "outputs": [{"name": "a.txt", "size_bytes": 1, "digest": "sha256:0"}]}', "delayed", None),
        ('{"exit_code": 0, "outputs": [{"name": "b.txt", "size_bytes": 1, "digest": "sha256:0"}]}', "delayed", None),
    ],
)
async def test_a_result_that_tells_of_a_failure_fails_the_attempt(
    user: Api, launcher: Api, tmp_path: Path, result: str, state: str, code: str | None
) -> None:
    answer, staged = await dispatched(user, launcher)

    ending = await deliver(user, answer, staged, left_behind(tmp_path, result))

    item = await item_of(user)
    assert ending is not None
    assert ending.verdict is Verdict.ITEM_FAILED
    assert (item["state"], item["attempts"]) == (state, 1)
    assert item["reason"]["code"] == (code or "output_refused")


async def test_exit_status_75_gives_the_item_back(user: Api, launcher: Api, tmp_path: Path) -> None:
    answer, staged = await dispatched(user, launcher)

    await deliver(user, answer, staged, left_behind(tmp_path, '{"exit_code": 75}'))

    item = await item_of(user)
    assert (item["state"], item.get("attempts", 0)) == ("ready", 0)


async def test_an_item_that_is_not_ours_any_more_is_not_delivered(user: Api, launcher: Api, tmp_path: Path) -> None:
    answer, staged = await dispatched(user, launcher)
    out = left_behind(tmp_path, '{"exit_code": 0}')
    async with Session(user.url) as session:
        stand_in = StandIn(session, answer, staged, client="1.0", renew=not_asked)
        assert await stand_in.claim() is None
        end = {"launcher": "l1", "verdict": "host_error", "sentence": ""}
        await launcher.ok("POST", f"/v1/dispatches/{answer.dispatch}/end", json=end)

        ending = await stand_in.deliver(harvest_folder(out, staged))

    assert ending is not None
    assert ending.verdict is Verdict.SUPERSEDED
    assert (await item_of(user))["state"] == "ready"


async def test_the_run_limit_that_holds_is_the_one_told_with_the_claim(user: Api, launcher: Api) -> None:
    answer, staged = await dispatched(user, launcher)
    told_ms = answer.limits.run_ms
    longer = msgspec.structs.replace(answer, limits=msgspec.structs.replace(answer.limits, run_ms=2 * told_ms))
    async with Session(user.url) as session:
        stand_in = StandIn(session, longer, staged, client="1.0", renew=not_asked)
        await stand_in.claim()

        assert 0.8 * told_ms < stand_in.left_s() * 1000 < told_ms
        assert f"the run limit of {told_ms / 1000:g} s was reached" in stand_in.run_limit_reached("it ran").sentence

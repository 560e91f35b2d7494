"""What each verdict does to an item, told by a launcher over HTTP: the whole table, written out once more.

The table here is the one that people read in the docs, not the code's: a change of either has to be meant.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import pytest

from broker.wire.states import Verdict
from tests.integration.http.conftest import Grid
from tests.support.api import Api, add_stream, claim, offer, put_output
from tests.support.waiting import until

SAID = "what the launcher saw of it"
NO_RESULT = "the vm ended as completed, but no result of it was accepted"


class Row(NamedTuple):
    """One verdict: what it does to an item that is dispatched, and to one that is running."""

    dispatched: str
    running: str


GIVEN_BACK, FAILED, RECORDED = "given back", "failed", "recorded"
TABLE = {
    "completed": Row(GIVEN_BACK, FAILED),
    "item_failed": Row(GIVEN_BACK, FAILED),
    "run_timeout": Row(GIVEN_BACK, FAILED),
    "disk_exceeded": Row(GIVEN_BACK, FAILED),
    "vm_crashed": Row(GIVEN_BACK, FAILED),
    "stopped_early": Row(GIVEN_BACK, FAILED),
    "guest_lost": Row(GIVEN_BACK, FAILED),
    "never_claimed": Row(GIVEN_BACK, GIVEN_BACK),
    "image_error": Row(GIVEN_BACK, GIVEN_BACK),
    "xml_refused": Row(GIVEN_BACK, GIVEN_BACK),
    "host_error": Row(GIVEN_BACK, GIVEN_BACK),
    "network_cut": Row(GIVEN_BACK, GIVEN_BACK),
    "drained": Row(GIVEN_BACK, GIVEN_BACK),
    "cancelled": Row(RECORDED, RECORDED),
    "superseded": Row(RECORDED, RECORDED),
}
STATE_AFTER = {GIVEN_BACK: "ready", FAILED: "delayed"}
"""Of an item's first vm: it is tried again at once, or after a pause."""


class Boot(NamedTuple):
    """An item with a vm of its own, and the guest in it when it has claimed."""

    item: str
    dispatch: str
    ticket: str
    guest: Api | None

    async def view(self, user: Api) -> Any:
        user_name, job, number = self.item.split("/")
        return await user.ok("GET", f"/v1/streams/{user_name}/{job}/items/{number}")


@pytest.fixture
async def stream(user: Api) -> str:
    return await add_stream(user)


@pytest.fixture(params=["dispatched", "running"])
def state(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def boot(user: Api, launcher: Api, stream: str, state: str) -> Boot:
    await user.ok("POST", f"{stream}/items", json=[{}])
    given = await launcher.ok("POST", "/v1/dispatch", json=offer())
    guest = None
    if state == "running":
        guest = launcher.bearing((await claim(launcher, given["ticket"])).json["lease"])
    return Boot(given["item"], given["dispatch"], given["ticket"], guest)


async def end(launcher: Api, boot: Boot, verdict: str, sentence: str = SAID) -> Any:
    body = {"launcher": "l1", "verdict": verdict, "sentence": sentence}
    return await launcher.ok("POST", f"/v1/dispatches/{boot.dispatch}/end", json=body)


def test_the_table_names_every_verdict() -> None:
    assert TABLE.keys() == set(Verdict)


@pytest.mark.parametrize("verdict", TABLE)
async def test_a_verdict_does_to_the_item_what_the_table_says(
    user: Api, launcher: Api, stream: str, state: str, verdict: str
) -> None:
    booted = await boot(user, launcher, stream, state)
    effect = getattr(TABLE[verdict], state)
    stands = "stopped_early" if verdict == "completed" else verdict
    sentence = NO_RESULT if verdict == "completed" else SAID
    after = STATE_AFTER.get(effect, state)
    claimed = {"machine_claimed": True} if state == "running" else {}

    told = await end(launcher, booted, verdict)

    assert told == {"verdict": stands, "state": after, **claimed}
    item = await booted.view(user)
    assert item["state"] == after
    assert (item.get("attempts", 0), item["boots"]) == (int(effect == FAILED), 1)
    assert (item["vm"]["verdict"], item["vm"]["sentence"]) == (stands, sentence)
    assert item.get("reason") == (None if effect == RECORDED else {"code": stands, "sentence": sentence})

    for other in ("vm_crashed", "drained"):
        assert await end(launcher, booted, other, "said again") == told, "the first verdict stands"
    again = await booted.view(user)
    again.pop("waits", None), item.pop("waits", None)
    assert again == item


@pytest.mark.parametrize("verdict", TABLE)
async def test_a_verdict_after_the_guests_completion_changes_nothing(
    user: Api, launcher: Api, stream: str, verdict: str
) -> None:
    booted = await boot(user, launcher, stream, "running")
    assert booted.guest is not None
    completion = {"outputs": [await put_output(booted.guest, b"a result")]}
    await booted.guest.ok("POST", "/v1/lease/complete", json=completion)

    told = await end(launcher, booted, verdict)

    assert (told["verdict"], told["state"]) == ("completed", "done")
    item = await booted.view(user)
    assert (item["state"], item.get("attempts", 0), item["boots"], len(item["outputs"])) == ("done", 0, 1, 1)
    assert item["vm"]["sentence"] == (SAID if verdict == "completed" else "the result was accepted")


@pytest.mark.parametrize("verdict", TABLE)
@pytest.mark.parametrize(
    ("code", "exit_code", "stands", "broker_says", "after", "attempts"),
    [
        ("program_failed", 3, "item_failed", "the guest told that its attempt failed", "delayed", 1),
        ("run_timeout", None, "run_timeout", "it ran longer than its stream's run limit", "delayed", 1),
        ("program_failed", 75, None, "", "ready", 0),
    ],
    ids=["failed", "ran too long", "gave back"],
)
async def test_a_verdict_after_the_guests_failure_changes_nothing(
    user: Api,
    launcher: Api,
    stream: str,
    verdict: str,
    code: str,
    exit_code: int | None,
    stands: str | None,
    broker_says: str,
    after: str,
    attempts: int,
) -> None:
    booted = await boot(user, launcher, stream, "running")
    assert booted.guest is not None
    failure = {"code": code, "sentence": "the guest's word", "exit_code": exit_code}
    await booted.guest.ok("POST", "/v1/lease/fail", json=failure)
    if stands is None:
        # The guest gave no verdict of its vm away; its launcher's stands, but for a success that nobody accepted.
        stands, broker_says = ("superseded" if verdict == "completed" else verdict), NO_RESULT

    told = await end(launcher, booted, verdict)

    assert (told["verdict"], told["state"]) == (stands, after)
    item = await booted.view(user)
    assert (item["state"], item.get("attempts", 0), item["boots"]) == (after, attempts, 1)
    assert item["reason"] == {"code": code, "sentence": "the guest's word"}
    assert item["vm"]["sentence"] == (SAID if stands == verdict else broker_says)


@pytest.mark.parametrize("verdict", TABLE)
async def test_a_verdict_after_a_cancel_is_cancelled(
    user: Api, launcher: Api, stream: str, state: str, verdict: str
) -> None:
    booted = await boot(user, launcher, stream, state)
    await user.ok("POST", f"{stream}/items/1/cancel")

    told = await end(launcher, booted, verdict)

    assert (told["verdict"], told["state"]) == ("cancelled", "cancelled")
    item = await booted.view(user)
    assert (item["state"], item.get("attempts", 0), item["boots"]) == ("cancelled", 0, 1)
    assert item["vm"]["sentence"] == (SAID if verdict == "cancelled" else "its item was cancelled")


@pytest.fixture
async def soon(
    start: Callable[[], AbstractAsyncContextManager[Grid]], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Grid]:
    """A broker whose leases are short."""
    for name, seconds in {"HEARTBEAT_S": "1", "LEASE_S": "3", "LAUNCHER_GRACE_S": "600"}.items():
        monkeypatch.setenv(f"VMBROKER_BROKER_{name}", seconds)
    async with start() as grid:
        yield grid


LOST = "its guest was not heard for a whole lease, while its launcher was"


async def test_a_verdict_after_a_lease_ran_out_is_guest_lost_unless_the_network_was_cut(soon: Grid) -> None:
    user, launcher = soon
    stream = await add_stream(user)
    await _prove(user, launcher, stream)
    booted = {verdict: await boot(user, launcher, stream, "running") for verdict in TABLE}
    await _has_left(user, stream, len(booted))

    for verdict, each in booted.items():
        told = await end(launcher, each, verdict)
        stands = "network_cut" if verdict == "network_cut" else "guest_lost"
        assert (told["verdict"], told["state"]) == (stands, "delayed"), verdict
        item = await each.view(user)
        assert (item["attempts"], item["boots"], item["reason"]["code"]) == (1, 1, "lease_expired")
        assert item["vm"]["sentence"] == (SAID if verdict == stands else LOST)


async def test_a_verdict_after_the_run_limit_is_run_timeout(soon: Grid) -> None:
    user, launcher = soon
    stream = await add_stream(user, limits={"run_ms": 1_000})
    await _prove(user, launcher, stream)
    booted = {verdict: await boot(user, launcher, stream, "running") for verdict in TABLE}
    await _has_left(user, stream, len(booted))

    for verdict, each in booted.items():
        told = await end(launcher, each, verdict)
        assert (told["verdict"], told["state"]) == ("run_timeout", "delayed"), verdict
        item = await each.view(user)
        assert (item["attempts"], item["boots"], item["reason"]["code"]) == (1, 1, "run_timeout")
        assert item["vm"]["sentence"] == (
            SAID if verdict == "run_timeout" else "it ran longer than its stream's run limit"
        )


async def _prove(user: Api, launcher: Api, stream: str) -> None:
    """Let one vm claim, so that the others need not wait for it."""
    proof = await boot(user, launcher, stream, "running")
    assert proof.guest is not None
    await proof.guest.ok("POST", "/v1/lease/complete", json={"outputs": []})


async def _has_left(user: Api, stream: str, count: int) -> None:
    async def has_left() -> bool:
        return bool((await user.ok("GET", stream))["counts"]["delayed"] == count)

    await until(has_left, f"{count} items are taken from their silent guests", timeout_s=60)

"""`why`, of items in every state and of streams, with every reason that a ready item may wait for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.integration.http.conftest import Parked
from tests.support.api import Api, add_stream, claim, offer, run_item

ROOM = {"vcpus": 4, "memory_mib": 8_192, "disk_mib": 100_000, "accelerator": "tcg", "exchanges": ["network"]}


async def _why(user: Api, stream: str, number: int | None = 1) -> tuple[str, str, dict[str, int]]:
    path = stream if number is None else f"{stream}/items/{number}"
    said = await user.ok("GET", f"{path}/why")
    return said["code"], said["sentence"], said.get("launchers", {})


async def _tell(launcher: Api, name: str, **more: Any) -> None:
    """Have a launcher tell of itself, as those do that are busy."""
    report = {"node": name, "total": {**ROOM, **more.pop("total", {})}, "health": more.pop("health", {}), **more}
    await launcher.ok("PUT", f"/v1/launchers/{name}", json=report)


@pytest.fixture
async def stream(user: Api) -> str:
    stream = await add_stream(user, needs={"vcpus": 2, "memory_mib": 8_192})
    await user.ok("POST", f"{stream}/items", json=[{}] * 3)
    return stream


async def test_launchers_are_counted_by_what_each_lacks(user: Api, launcher: Api, stream: str) -> None:
    for number in range(9):
        await _tell(launcher, f"small{number}", total={"memory_mib": 1_024 + number})
    for number in range(3):
        await _tell(launcher, f"others{number}", users=["bob"])
    for name, total in (("narrow", {"vcpus": 1}), ("short", {"time_left_ms": 5_030_000}), ("full", {"disk_mib": 5})):
        await _tell(launcher, name, total=total)

    assert await _why(user, stream) == (
        "needs_unmet",
        "alice/render/1 is ready: 15 launchers: 9 have too little memory (largest 1032 MiB, it wants 8192), "
        "3 serve other users, 1 has too little disk (largest 5 MiB, it wants 10240), "
        "1 ends too soon (longest 1 h 23 min, its run limit is 24 h), 1 has too few vcpus (most 1, it wants 2)",
        {"memory": 9, "serves_others": 3, "disk": 1, "time": 1, "vcpus": 1},
    )
    await _tell(launcher, "sick", health={"state": "backing_off", "code": "disk_full"})
    await _tell(launcher, "busy")
    code, sentence, counts = await _why(user, stream)
    assert code == "launchers_busy"
    assert "1 does not ask for items now" in sentence
    assert "1 is busy" in sentence
    assert (counts["busy"], counts["not_well"]) == (1, 1)


async def test_needs_of_other_kinds_are_told_too(user: Api, launcher: Api) -> None:
    stream = await add_stream(user, needs={"accelerator": "kvm", "exchange": "disk"})
    await user.ok("POST", f"{stream}/items", json=[{}])
    await _tell(launcher, "emulates", total={"exchanges": ["disk"]})
    await _tell(launcher, "carries-nothing", total={"accelerator": "kvm"})

    code, sentence, counts = await _why(user, stream)

    assert (code, counts) == ("needs_unmet", {"accelerator": 1, "exchange": 1})
    assert sentence.endswith("2 launchers: 1 has no kvm, 1 does not know exchange disk")


async def _nobody(user: Api, launcher: Api, stream: str) -> None:
    pass


async def _served_to_others(user: Api, launcher: Api, stream: str) -> None:
    await _tell(launcher, "l1", users=["bob"])


async def _sick(user: Api, launcher: Api, stream: str) -> None:
    await _tell(launcher, "l1", health={"state": "excluded", "code": "never_claims"})


async def _busy(user: Api, launcher: Api, stream: str) -> None:
    await _tell(launcher, "l1")


async def _too_small(user: Api, launcher: Api, stream: str) -> None:
    await _tell(launcher, "l1", total={"vcpus": 1})


async def _paused(user: Api, launcher: Api, stream: str) -> None:
    await user.ok("POST", f"{stream}/pause", json={"reason": "the share is down"})


async def _canaries(user: Api, launcher: Api, stream: str) -> None:
    await launcher.ok("POST", "/v1/dispatch", json=offer(most=2, vcpus=8, memory_mib=32_768))


async def _queued(user: Api, launcher: Api, stream: str) -> None:
    report = {"kind": "slurm", "place": "here", "queued": 3, "sentence": "Priority"}
    await launcher.ok("PUT", "/v1/launcher-jobs/s1", json=report)


Scene = Callable[[Api, Api, str], Awaitable[None]]


@pytest.mark.parametrize(
    ("scene", "code", "said"),
    [
        (_nobody, "no_launcher", "no launcher has been heard of lately: start one"),
        (_served_to_others, "not_served", "1 launcher is there, none of which serves alice"),
        (_sick, "nodes_not_well", "1 launcher is there, its node is excluded (never_claims)"),
        (_busy, "launchers_busy", "1 launcher is there, and none that may serve it has room for it now"),
        (_too_small, "needs_unmet", "it wants 2 vcpus, 1 are free"),
        (_paused, "stream_paused", "its stream is paused: alice paused it: the share is down; `broker resume"),
        (_canaries, "canaries_out", "two canaries of this stream are out"),
        (_queued, "jobs_queued", "3 launcher jobs are queued in Slurm at here"),
    ],
)
async def test_each_reason_is_told_of_the_item_and_of_its_stream(
    user: Api, launcher: Api, stream: str, scene: Scene, code: str, said: str
) -> None:
    await scene(user, launcher, stream)
    number = 3 if scene is _canaries else 1

    assert (await _why(user, stream, number))[0] == code
    assert said in (await _why(user, stream, number))[1]
    of_stream = await _why(user, stream, None)
    assert of_stream[0] == ("paused_by_user" if scene is _paused else code)
    assert of_stream[1].startswith("alice/render")


async def test_items_of_every_state_and_their_streams_say_why(user: Api, launcher: Api) -> None:
    stream = await add_stream(user, retry={"hold_exit_codes": [2]})
    assert await _why(user, stream, None) == ("empty", "alice/render has no item: `broker push alice/render …`", {})
    await user.ok("POST", f"{stream}/items", json=[{}] * 5 + [{"delay_ms": 60_000}])
    await run_item(launcher)
    given = await launcher.ok("POST", "/v1/dispatch", json=offer())
    code, sentence, _ = await _why(user, stream, 2)
    assert (code, sentence) == (
        "dispatched",
        "alice/render/2 has a vm on n1, which is dispatched and has not claimed it yet",
    )
    guest = launcher.bearing((await claim(launcher, given["ticket"])).json["lease"])
    await guest.ok("POST", "/v1/lease/extend", json={"progress": "42 %"})
    assert (await _why(user, stream, 2))[:2] == ("running", "alice/render/2 is running on n1: 42 %")
    for status in (2, 1):
        failure = {"code": "program_failed", "sentence": f"it exited with {status}", "exit_code": status}
        again = await launcher.ok("POST", "/v1/dispatch", json=offer())
        failing = launcher.bearing((await claim(launcher, again["ticket"])).json["lease"])
        await failing.ok("POST", "/v1/lease/fail", json=failure)
    await user.ok("POST", f"{stream}/items/5/cancel")

    assert (await _why(user, stream, 1))[:2] == ("done", "alice/render/1 is done")
    assert (await _why(user, stream, 3))[0] == "program_failed"
    assert "is held (attempts: 1, boots: 1): it exited with 2" in (await _why(user, stream, 3))[1]
    assert "alice/render/4 is tried again at" in (await _why(user, stream, 4))[1]
    assert (await _why(user, stream, 5))[:2] == ("cancelled", "alice/render/5 is cancelled: alice cancelled it")
    assert "alice/render/6 becomes ready at" in (await _why(user, stream, 6))[1]
    assert (await _why(user, stream, None))[0] == "running"
    await guest.ok("POST", "/v1/lease/complete", json={"outputs": []})
    code, sentence, _ = await _why(user, stream, None)
    assert (code, "the next one becomes ready at" in sentence) == ("delayed", True)
    for number in (4, 6):
        await user.ok("POST", f"{stream}/items/{number}/cancel")
    assert (await _why(user, stream, None))[:2] == (
        "held",
        "alice/render: 2 done, 1 held, 3 cancelled; what is held waits for `broker release alice/render --all`",
    )
    await user.ok("POST", f"{stream}/items/3/cancel")
    assert (await _why(user, stream, None))[:2] == (
        "settled",
        "alice/render has nothing left to do: 2 done, 4 cancelled",
    )


async def test_a_site_that_holds_what_it_may_is_told(user: Api, parked: Parked) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}] * 3)
    site = await user.ok("POST", "/v1/sites/renci/tokens", json={"most_dispatches": 1})
    launcher = user.bearing(site["token"])
    given = await launcher.ok("POST", "/v1/dispatch", json=offer())
    waiting = asyncio.create_task(launcher.call("POST", "/v1/dispatch", json=offer(launcher="l2", wait_ms=30_000)))
    await parked(1)

    code, sentence, _ = await _why(user, stream, 2)
    assert code == "holds_enough"
    assert "1 launcher waits, and its site holds as many items as its token allows (at most 1)" in sentence
    end = {"launcher": "l1", "verdict": "drained", "sentence": "over"}
    await launcher.ok("POST", f"/v1/dispatches/{given['dispatch']}/end", json=end)
    assert (await waiting).status == 200

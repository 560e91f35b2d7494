import json
from typing import Any

from tests.support.api import Api, claim, offer, run_item
from tests.support.grid import Home

ROOM = {"vcpus": 4, "memory_mib": 2_048, "disk_mib": 10_240, "accelerator": "tcg"}


async def test_items_are_cancelled_by_name_and_each_is_told(home: Home, stream: str, launcher: Api) -> None:
    home.ok("broker", "push", stream, "--count", "4")
    await run_item(launcher)
    given = await launcher.ok("POST", "/v1/dispatch", json=offer())
    guest = launcher.bearing((await claim(launcher, given["ticket"])).json["lease"])

    told = home.run("broker", "cancel", f"{stream}/2", f"{stream}/1", f"{stream}/9", f"alice/{stream}/3")

    assert told.status == 4
    assert told.out.splitlines() == [
        f"alice/{stream}/2 is cancelled; its vm on n1 is told so and ends",
        f"alice/{stream}/3 is cancelled",
    ]
    assert f"alice/{stream}/1 is done already: there is nothing to cancel" in told.err
    assert f"there is no item alice/{stream}/9" in told.err
    assert (await guest.ok("POST", "/v1/lease/extend", json={}))["instruction"] == "cancel"
    assert home.ok("broker", "cancel", f"{stream}/3") == f"alice/{stream}/3 is cancelled\n"
    assert home.ok("broker", "why", f"{stream}/3") == f"alice/{stream}/3 is cancelled: alice cancelled it\n"
    assert home.ok("broker", "cancel", f"{stream}/4").strip() == f"alice/{stream}/4 is cancelled"
    watched = home.ok("broker", "watch", stream)
    assert watched.splitlines()[-1] == f"alice/{stream}: 1 done, 3 cancelled"
    assert f"{stream}/2 cancelled: alice cancelled it" in watched


def test_a_name_that_is_none_cancels_nothing(home: Home, stream: str) -> None:
    home.ok("broker", "push", stream, "--count", "1")

    refused = home.run("broker", "cancel", f"{stream}/1", "nonsense")

    assert (refused.status, refused.out) == (2, "")
    assert "'nonsense' names no item" in refused.err
    assert "1" in home.ok("broker", "status", stream).split()[-1]
    assert "ready" in home.ok("broker", "status", stream)


async def test_the_operator_sees_launchers_their_room_and_what_ails_them(home: Home, launcher: Api) -> None:
    assert home.ok("broker", "launchers", "--state", "excluded") == (
        "no launcher of the last day that you may see is excluded\n"
    )
    health = {
        "state": "backing_off",
        "code": "disk_full",
        "sentence": "the scratch folder is \x1b[2Jfull",
        "retry_at": "2026-11-22T12:00:00Z",
    }
    await _tell(launcher, "well", vms=1, free={**ROOM, "vcpus": 3}, total={**ROOM, "time_left_ms": 7_260_000})
    await _tell(launcher, "sick", health=health, contact="grid@site.example")

    table = home.ok("broker", "launchers").splitlines()

    assert " ".join(table[0].split()) == "launcher node state vms free vcpus memory disk accelerator time left heard"
    sick, well = (line.split() for line in table[1:3])
    assert sick[:7] == ["local/sick", "n1", "backing_off", "0", "-", "-", "-"]
    assert well[:10] == ["local/well", "n1", "healthy", "1", "3", "2.0", "GiB", "10.0", "GiB", "tcg"]
    assert well[10] in {"2h01m", "2h00m"}
    assert table[3:] == [
        "local/sick: backing_off (disk_full): the scratch folder is ^[[2Jfull; it tries again at 2026-11-22T12:00:00Z; "
        "contact: grid@site.example"
    ]
    [one] = json.loads(home.ok("broker", "launchers", "-o", "json", "--state", "backing_off"))
    assert (one["launcher"], one["report"]["health"]["code"]) == ("local/sick", "disk_full")


async def test_launcher_jobs_are_shown_under_the_launchers_and_not_among_them(home: Home, launcher: Api) -> None:
    await _tell(launcher, "well")
    told = {"kind": "htcondor", "place": "ap@pool.test", "queued": 3, "sentence": "no slot \x1b[2Jcan"}
    await launcher.ok("PUT", "/v1/launcher-jobs/vmb-1", json=told)

    shown = home.ok("broker", "launchers").splitlines()
    head, row, why = shown[-3:]
    assert head.split() == ["launcher", "jobs", "of", "in", "queued", "running", "held", "told"]
    assert row.split()[:6] == ["local/vmb-1", "htcondor,", "ap@pool.test", "3", "-", "-"]
    assert why == "local/vmb-1: no slot ^[[2Jcan"
    assert "local/vmb-1" not in home.ok("broker", "launchers", "--state", "healthy")
    listed = json.loads(home.ok("broker", "launchers", "-o", "json"))
    assert "local/well" in {one["launcher"] for one in listed}
    assert all(set(one) == {"launcher", "node", "heard_at", "is_gone", "report"} for one in listed)

    await launcher.ok("DELETE", "/v1/launcher-jobs/vmb-1")
    assert "launcher jobs" not in home.ok("broker", "launchers")


async def _tell(launcher: Api, name: str, **fields: Any) -> None:
    await launcher.ok("PUT", f"/v1/launchers/{name}", json={"node": "n1", "total": ROOM, **fields})


async def test_a_cancel_says_nothing_of_vms_that_no_longer_have_their_items(
    home: Home, stream: str, launcher: Api
) -> None:
    home.ok("broker", "push", stream, "--count", "2")
    for exit_code in (75, 3):
        given = await _given(launcher, stream)
        guest = launcher.bearing((await claim(launcher, given["ticket"])).json["lease"])
        failure = {"code": "program_failed", "sentence": "it failed", "exit_code": exit_code}
        await guest.ok("POST", "/v1/lease/fail", json=failure)
        if exit_code == 75:
            assert home.ok("broker", "cancel", f"{stream}/1") == f"alice/{stream}/1 is cancelled\n"
    assert "is tried again at" in home.ok("broker", "why", f"{stream}/2")

    assert home.ok("broker", "cancel", f"{stream}/2") == f"alice/{stream}/2 is cancelled\n"
    assert home.ok("broker", "why", f"{stream}/2") == (
        f"alice/{stream}/2 is cancelled: alice cancelled it; before: it failed\n"
    )


async def _given(launcher: Api, stream: str) -> Any:
    """Take items, those that other tests left too, until one of the stream comes."""
    for _ in range(20):
        given = await launcher.ok("POST", "/v1/dispatch", json=offer())
        if given["item"].startswith(f"alice/{stream}/"):
            return given
    raise AssertionError(f"no item of {stream} came")

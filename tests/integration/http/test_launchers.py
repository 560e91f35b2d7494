"""What launchers tell of themselves, and who sees it."""

from collections.abc import Callable
from typing import Any

import msgspec

from broker.client.dispatch import DispatchClient
from broker.client.researcher import Researcher
from broker.client.session import Session
from broker.store.launchers import Heard, Launchers
from broker.wire.dispatches import Room
from broker.wire.launchers import Health, LauncherReport, ListedState
from broker.wire.states import Accelerator, HealthCode, HealthState
from tests.support.api import Api, add_stream, offer

ROOM = Room(vcpus=4, memory_mib=8_192, disk_mib=100_000, accelerator=Accelerator.TCG, time_left_ms=3_600_000)
SICK = Health(
    state=HealthState.BACKING_OFF,
    code=HealthCode.DISK_FULL,
    sentence="/scratch/site is full",
    faults=3,
    retry_at="2026-11-22T12:00:00Z",
)
Issue = Callable[..., str]


def report(**fields: Any) -> LauncherReport:
    given: dict[str, Any] = {"node": "n1", "total": ROOM, "free": ROOM, "contact": "grid@site.example", **fields}
    return LauncherReport(**given)


async def test_what_a_launcher_tells_is_seen_whole_by_the_operator_and_its_site(user: Api, launcher: Api) -> None:
    async with Session(launcher.url, token=launcher.token) as session:
        told = await DispatchClient(session).tell("node1", report(vms=2, health=SICK, labels={"site": "a"}))
        [own] = [each async for each in Researcher(session).launchers()]
    async with Session(user.url, token=user.token) as session:
        [seen] = [each async for each in Researcher(session).launchers(ListedState.BACKING_OFF)]
        assert [each async for each in Researcher(session).launchers(ListedState.HEALTHY)] == []

    assert told.next_ms == 20_000
    for view in (seen, own):
        assert (view.launcher, view.node, view.is_gone) == ("local/node1", "n1", False)
        assert (view.report.health, view.report.vms, view.report.labels) == (SICK, 2, {"site": "a"})
        assert view.report.contact == "grid@site.example"
        assert 3_590_000 < (view.report.total.time_left_ms or 0) <= 3_600_000


async def test_a_user_sees_those_that_would_serve_them_without_the_sites_own_words(
    user: Api, launcher: Api, issue: Issue
) -> None:
    await _tell(launcher, "everybodys", report(health=SICK))
    await _tell(launcher, "alices", report(users=("alice",)))
    await _tell(launcher.bearing(issue("site", "queue.dispatch:/alice")), "hers", report())
    bob = user.bearing(issue("bob", "queue.read:/bob"))

    [seen] = (await bob.ok("GET", "/v1/launchers"))["launchers"]

    assert seen["launcher"] == "local/everybodys"
    assert seen["report"]["health"]["code"] == "disk_full"
    assert (seen["report"]["health"]["sentence"], seen["report"]["contact"]) == ("", "")
    names = {each["launcher"] for each in (await user.ok("GET", "/v1/launchers"))["launchers"]}
    assert names == {"local/everybodys", "local/alices", "site/hers"}
    of_site = await user.bearing(issue("site", "queue.dispatch:/alice")).ok("GET", "/v1/launchers")
    assert [each["launcher"] for each in of_site["launchers"]] == ["site/hers"]
    assert (await user.bearing(issue("eve", "file.read:/eve")).call("GET", "/v1/launchers")).code == "forbidden"


async def test_launchers_are_listed_page_by_page(user: Api, launcher: Api) -> None:
    for number in range(5):
        await _tell(launcher, f"l{number}", report())
    names: list[str] = []
    query = "?limit=2"
    for _ in range(5):
        page = await user.ok("GET", f"/v1/launchers{query}")
        names += [each["launcher"] for each in page["launchers"]]
        if "cursor" not in page:
            break
        query = f"?limit=2&cursor={page['cursor']}"

    assert names == [f"local/l{number}" for number in range(5)]
    for wrong in ("limit=0", "state=sick", "cursor=x", "order=name"):
        assert (await user.call("GET", f"/v1/launchers?{wrong}")).code == "bad_request"


async def test_a_launcher_that_ends_is_listed_no_more(user: Api, launcher: Api) -> None:
    async with Session(launcher.url, token=launcher.token) as session:
        client = DispatchClient(session)
        await client.tell("node1", report())
        for _ in range(2):
            await client.leave("node1")

    assert await user.ok("GET", "/v1/launchers") == {"launchers": []}


async def test_a_launcher_speaks_of_itself_alone_and_not_without_end(
    user: Api, launcher: Api, issue: Issue, monkeypatch: Any
) -> None:
    await _tell(launcher, "node1", report(vms=1))
    other = launcher.bearing(issue("other", "queue.dispatch"))
    await other.call("DELETE", "/v1/launchers/node1")
    long = report(node="n" * 1_000, labels={f"l{number}": "x" * 1_000 for number in range(100)})
    await _tell(other, "node1", long)

    mine, others = (await user.ok("GET", "/v1/launchers"))["launchers"]
    assert (mine["launcher"], mine["report"]["vms"]) == ("local/node1", 1)
    assert (len(others["node"]), len(others["report"]["labels"])) == (255, 32)
    assert (await user.call("PUT", "/v1/launchers/node1", json={})).code == "forbidden"
    for fields in (
        {"vms": -1},
        {"users": ("a b",)},
        {"total": Room(vcpus=0, memory_mib=1, disk_mib=1, accelerator=Accelerator.TCG)},
    ):
        assert (await _told(launcher, "node1", report(**fields))).code == "bad_request", fields


async def test_an_item_that_nobody_there_serves_says_so(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])
    refused = {**offer(), "users": ["bob", "carol"]}
    assert (await launcher.call("POST", "/v1/dispatch", json=refused)).status == 204

    waits = (await user.ok("GET", f"{stream}/items/1"))["waits"]

    assert waits == {
        "code": "not_served",
        "sentence": "1 launcher is there, none of which serves alice: ask its site, or run one, `launcher run`",
    }
    assert (await launcher.ok("POST", "/v1/dispatch", json={**offer(), "users": ["alice"]}))["item"]


async def test_an_item_that_could_not_end_before_a_slot_does_is_not_given_to_it(user: Api, launcher: Api) -> None:
    stream = await add_stream(user, limits={"run_ms": 7_200_000, "boot_ms": 60_000})
    await user.ok("POST", f"{stream}/items", json=[{}])

    assert (await launcher.call("POST", "/v1/dispatch", json=offer(time_left_ms=7_200_000))).status == 204

    assert (await user.ok("GET", f"{stream}/items/1"))["waits"]["sentence"] == (
        "1 launcher is there, none with the room it needs even when idle: it may need 1 min to boot and 2 h to run "
        "(its run limit), the slot ends in 1 h 59 min: a shorter limits.run lets it start"
    )
    assert (await launcher.ok("POST", "/v1/dispatch", json=offer(time_left_ms=7_260_000 + 60_000)))["item"]


async def _told(launcher: Api, name: str, report: LauncherReport) -> Any:
    return await launcher.call("PUT", f"/v1/launchers/{name}", data=msgspec.json.encode(report))


async def _tell(launcher: Api, name: str, report: LauncherReport) -> None:
    answer = await _told(launcher, name, report)
    assert answer.status == 200, answer


async def test_a_report_of_a_later_launcher_is_kept_with_words_not_known_here(user: Api, launcher: Api) -> None:
    body = msgspec.to_builtins(report()) | {"health": {"state": "hibernating", "code": "power_saved"}}
    await launcher.ok("PUT", "/v1/launchers/later", json=body)

    [seen] = (await user.ok("GET", "/v1/launchers"))["launchers"]

    assert (seen["report"]["health"]["state"], seen["report"]["health"]["code"]) == ("hibernating", "power_saved")


async def test_a_report_and_an_offer_are_bounded_in_size(user: Api, launcher: Api) -> None:
    often = {**msgspec.to_builtins(ROOM), "exchanges": ["network"] * 5}
    many_words = report(labels={f"{number:03}" + "ü" * 125: "ü" * 128 for number in range(32)}, users=("u" * 60,) * 100)

    assert (await launcher.call("PUT", "/v1/launchers/n", json={"node": "n", "total": often})).code == "bad_request"
    assert (await launcher.call("POST", "/v1/dispatch", json={**offer(), "room": often})).code == "bad_request"
    refused = await _told(launcher, "n", many_words)
    assert (refused.code, "at most 16384 are kept" in refused.json["detail"]) == ("too_large", True)
    assert (await _told(launcher, "n", report(users=("u",) * 101))).code == "bad_request"
    assert await user.ok("GET", "/v1/launchers") == {"launchers": []}


async def test_who_is_gone_is_listed_as_that_alone(user: Api, launcher: Api, monkeypatch: Any) -> None:
    await _tell(launcher, "node1", report())
    monkeypatch.setattr(Launchers, "heard_launchers", _all_gone)

    assert (await user.ok("GET", "/v1/launchers?state=healthy"))["launchers"] == []
    [gone] = (await user.ok("GET", "/v1/launchers?state=gone"))["launchers"]
    assert (gone["launcher"], gone["report"]["health"]["state"], gone["report"]["vms"]) == ("local/node1", "healthy", 0)


async def _all_gone(_: Launchers) -> list[Heard]:
    return [Heard(True, "local/node1", 1_000)]


async def test_an_item_whose_launchers_ask_for_nothing_says_why(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])

    async def waits() -> tuple[str, str]:
        told = (await user.ok("GET", f"{stream}/items/1"))["waits"]
        return told["code"], told["sentence"]

    await _tell(launcher, "others", report(users=("bob",)))
    assert await waits() == (
        "not_served",
        "1 launcher is there, none of which serves alice: ask its site, or run one, `launcher run`",
    )
    await _tell(launcher, "sick", report(health=SICK))
    assert await waits() == (
        "nodes_not_well",
        "1 launcher is there, its node is backing off (disk_full) until 2026-11-22T12:00:00Z",
    )
    for name, health in {
        "excluded": Health(state=HealthState.EXCLUDED, code=HealthCode.NEVER_CLAIMS, retry_at="2026-11-22T11:00:00Z"),
        "ends": Health(state=HealthState.DRAINING, code=HealthCode.SLOT_ENDS),
    }.items():
        await _tell(launcher, name, report(health=health))
    assert (await waits())[1] == (
        "3 launchers are there, none of which asks for items now; the node that may be the first is excluded "
        "(never_claims) until 2026-11-22T11:00:00Z"
    )
    await _tell(launcher, "ends-in-an-hour", report())
    assert (await waits())[0] == "needs_unmet", "its slot ends before the run limit"
    await _tell(launcher, "well", report(total=msgspec.structs.replace(ROOM, time_left_ms=None)))
    assert (await waits())[0] == "launchers_busy"

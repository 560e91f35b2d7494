"""Launcher jobs: what is ready for launchers, what submitters tell, and who sees it."""

from collections.abc import Callable

import msgspec

from broker.client.dispatch import DispatchClient
from broker.client.researcher import Researcher
from broker.client.session import Session
from broker.domain.limits import default
from broker.wire.jobs import BatchKind, JobsReport
from broker.wire.launchers import MAX_USERS
from tests.support.api import Api, add_stream, offer

Issue = Callable[..., str]
REPORT = JobsReport(
    kind=BatchKind.HTCONDOR, place="ap@pool.test", queued=3, sentence="no slot can", users=("alice", "carol")
)


async def test_a_launchers_token_is_told_what_is_ready_for_it(user: Api, launcher: Api, issue: Issue) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])
    async with Session(launcher.url, token=launcher.token) as session:
        page = await DispatchClient(session).demand()
    [demand] = page.demands
    assert (demand.user, demand.ready, demand.vcpus) == ("alice", 1, 1)
    of_bob = launcher.bearing(issue("site", "queue.dispatch:/bob"))
    assert await of_bob.ok("GET", "/v1/demand") == {"demands": [], "is_cut": False}
    assert (await user.call("GET", "/v1/demand")).code == "forbidden"


async def test_what_a_submitter_tells_is_seen_by_the_operator_its_site_and_those_it_would_serve(
    user: Api, launcher: Api, issue: Issue
) -> None:
    async with Session(launcher.url, token=launcher.token) as session:
        await DispatchClient(session).tell_jobs("vmb-1", REPORT)
        [own] = await Researcher(session).launcher_jobs()
    async with Session(user.url, token=user.token) as session:
        [operators] = await Researcher(session).launcher_jobs()
    assert own == operators
    assert (own.jobs, own.report) == ("local/vmb-1", REPORT)

    carol = user.bearing(issue("carol", "queue.read:/carol"))
    [seen] = (await carol.ok("GET", "/v1/launcher-jobs"))["jobs"]
    assert (seen["report"]["queued"], seen["report"]["sentence"], seen["report"]["users"]) == (3, "no slot can", [])
    bob = user.bearing(issue("bob", "queue.read:/bob"))
    assert await bob.ok("GET", "/v1/launcher-jobs") == {"jobs": []}
    assert (await user.bearing(issue("eve", "file.read:/eve")).call("GET", "/v1/launcher-jobs")).code == "forbidden"


async def test_a_submitter_without_jobs_is_told_of_no_more(user: Api, launcher: Api) -> None:
    async with Session(launcher.url, token=launcher.token) as session:
        client = DispatchClient(session)
        await client.tell_jobs("vmb-1", REPORT)
        for _ in range(2):
            await client.forget_jobs("vmb-1")
    assert await user.ok("GET", "/v1/launcher-jobs") == {"jobs": []}


async def test_a_submitter_speaks_of_its_own_jobs_alone_and_not_without_end(
    user: Api, launcher: Api, issue: Issue
) -> None:
    told = {"kind": "slurm", "place": "p" * 1_000, "queued": 1, "sentence": "s" * 9_000}
    await launcher.ok("PUT", "/v1/launcher-jobs/vmb-1", json=told)
    other = launcher.bearing(issue("other", "queue.dispatch"))
    await other.ok("DELETE", "/v1/launcher-jobs/vmb-1")
    [kept] = (await user.ok("GET", "/v1/launcher-jobs"))["jobs"]
    assert (len(kept["report"]["place"]), len(kept["report"]["sentence"])) == (200, 1_000)
    for wrong in ({"queued": -1}, {"kind": "lsf"}, {"users": ["a b"]}, {"running": 1 << 40}):
        answer = await launcher.call("PUT", "/v1/launcher-jobs/vmb-1", json={**told, **wrong})
        assert answer.code == "bad_request", wrong
    assert (await launcher.call("PUT", "/v1/launcher-jobs/a%20b", json=told)).code == "bad_request"
    assert (await user.call("PUT", "/v1/launcher-jobs/vmb-1", json=told)).code == "forbidden"


async def test_an_item_that_waits_for_queued_jobs_says_so(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])
    await launcher.ok(
        "PUT",
        "/v1/launcher-jobs/vmb-1",
        json={"kind": "htcondor", "place": "ap@pool.test", "queued": 1, "sentence": "no slot can"},
    )
    waits = (await user.ok("GET", f"{stream}/items/1"))["waits"]
    assert waits == {
        "code": "jobs_queued",
        "sentence": "no launcher has been heard of lately; 1 launcher job is queued in HTCondor at ap@pool.test: "
        "no slot can",
    }
    await launcher.ok(
        "PUT", "/v1/launcher-jobs/vmb-1", json={"kind": "htcondor", "place": "ap", "queued": 1, "users": ["bob"]}
    )
    assert (await user.ok("GET", f"{stream}/items/1"))["waits"]["code"] == "no_launcher"


async def test_an_item_that_waits_for_busy_launchers_is_told_of_the_jobs_that_bring_more(
    user: Api, launcher: Api
) -> None:
    stream = await add_stream(user, needs={"vcpus": 4})
    await user.ok("POST", f"{stream}/items", json=[{}, {}])
    await launcher.ok("POST", "/v1/dispatch", json=offer())
    told = {"kind": "slurm", "place": "hpc", "running": 1}
    await launcher.ok("PUT", "/v1/launcher-jobs/vmb-1", json=told)
    busy = (await user.ok("GET", f"{stream}/items/2"))["waits"]
    await launcher.ok("PUT", "/v1/launcher-jobs/vmb-1", json={**told, "queued": 2})
    more = (await user.ok("GET", f"{stream}/items/2"))["waits"]

    assert busy["code"] == more["code"] == "launchers_busy"
    assert busy["sentence"].endswith("none that may serve it has room for it now")
    assert more["sentence"] == f"{busy['sentence']}; 2 launcher jobs are queued in Slurm at hpc"


async def test_the_most_that_a_submitter_may_tell_is_kept_in_no_more_than_any_report(user: Api, launcher: Api) -> None:
    users = [f"{number:03}{'u' * 60}" for number in range(MAX_USERS)]
    told = {"kind": "pbs", "place": "\x01" * 1_000, "held": 1, "sentence": "\x01" * 9_000, "users": users}
    await launcher.ok("PUT", "/v1/launcher-jobs/vmb-1", json=told)
    [kept] = (await launcher.ok("GET", "/v1/launcher-jobs"))["jobs"]
    assert len(msgspec.json.encode(kept["report"])) <= default("report_bytes")
    answer = await launcher.call("PUT", "/v1/launcher-jobs/vmb-1", json={**told, "users": [*users, "one"]})
    assert answer.code == "bad_request"

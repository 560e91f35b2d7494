from broker.domain.limits import default
from broker.wire.jobs import BatchKind, JobsReport
from tests.integration.store.scene import Scene
from tests.support.stores import age

DAY_MS = 86_400_000
REPORT = JobsReport(kind=BatchKind.HTCONDOR, place="ap", queued=2)


async def _names(scene: Scene) -> list[str]:
    return [known.view.jobs for known in await scene.store.known_jobs()]


async def test_the_last_report_stands_with_its_age_the_latest_first(scene: Scene) -> None:
    await scene.store.report_jobs(
        "local/a", JobsReport(kind=BatchKind.PBS, place="old", queued=1), "queue.dispatch:/bob"
    )
    await age(scene.store, 40_000)
    await scene.store.report_jobs("local/b", REPORT, "queue.dispatch:/")
    await scene.store.report_jobs("local/c", REPORT, "queue.dispatch:/")
    await age(scene.store, 60_000)
    await scene.store.report_jobs("local/b", REPORT, "queue.dispatch:/bob")

    latest, middle, oldest = await scene.store.known_jobs()

    assert [latest.view.jobs, middle.view.jobs, oldest.view.jobs] == ["local/b", "local/c", "local/a"]
    assert (latest.view.report, latest.serves) == (REPORT, "queue.dispatch:/bob")
    assert latest.age_ms < 30_000 <= 60_000 <= middle.age_ms < 90_000 < oldest.age_ms


async def test_who_has_none_any_more_or_told_nothing_for_a_day_leaves_nothing(scene: Scene) -> None:
    for name in ("local/removed", "local/silent"):
        await scene.store.report_jobs(name, REPORT, "")
    for _ in range(2):
        await scene.store.remove_jobs("local/removed")
    keys = await scene.store._server.command("KEYS", "*:submitter:*")
    lives = [await scene.store._server.command("PTTL", key) for key in keys]
    await age(scene.store, DAY_MS + 1_000)
    await scene.store.report_jobs("local/other", REPORT, "")

    assert len(keys) == 1
    assert DAY_MS - 60_000 < lives[0] <= DAY_MS
    assert await _names(scene) == ["local/other"]


async def test_the_one_of_a_token_that_told_nothing_for_longest_makes_room(scene: Scene) -> None:
    await scene.store.report_jobs("other/first", REPORT, "")
    for number in range(default("submitters") + 1):
        await scene.store.report_jobs(f"local/{number}", REPORT, "")

    names = await _names(scene)

    assert len(names) == default("submitters") + 1
    assert "local/0" not in names
    assert "other/first" in names


async def test_who_told_before_makes_no_other_go_by_telling_again(scene: Scene) -> None:
    for number in (*range(default("submitters")), 0):
        await scene.store.report_jobs(f"local/{number}", REPORT, "")

    assert len(await _names(scene)) == default("submitters")


async def test_all_tokens_together_have_a_bound_and_what_makes_room_leaves_nothing(scene: Scene) -> None:
    each, most = default("submitters"), default("all_submitters")
    for number in range(most + 1):
        await scene.store.report_jobs(f"site{number // each}/{number}", REPORT, "")

    names = await _names(scene)
    keys = await scene.store._server.command("KEYS", "*:submitter:*")

    assert len(names) == len(keys) == most
    assert "site0/0" not in names
    assert names[0] == f"site{most // each}/{most}"
    of_first = await scene.store._server.command("ZCARD", f"{scene.store._keys.submitters_of}site0")
    assert of_first == each - 1

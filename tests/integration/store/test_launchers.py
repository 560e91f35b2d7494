import msgspec
import pytest

from broker.domain.errors import Conflict
from broker.domain.limits import LIMITS
from broker.store import KnownLauncher
from broker.wire.dispatches import Room
from broker.wire.launchers import LauncherReport
from broker.wire.states import Accelerator
from tests.integration.store.scene import Scene
from tests.support.stores import age

ROOM = Room(vcpus=4, memory_mib=8_192, disk_mib=100_000, accelerator=Accelerator.KVM, time_left_ms=100_000)
REPORT = LauncherReport(node="n1", total=ROOM, free=ROOM)
DAY_MS = 86_400_000


async def _known(scene: Scene) -> list[KnownLauncher]:
    return await scene.store.known_launchers(await scene.store.heard_launchers())


async def test_the_last_report_stands_and_its_time_goes_on(scene: Scene) -> None:
    await scene.store.report_launcher("local/a", REPORT, "queue.dispatch:/bob")
    await scene.store.report_launcher("local/a", msgspec.structs.replace(REPORT, vms=3), "queue.dispatch:/")
    await age(scene.store, 40_000)

    [known] = await _known(scene)

    assert (known.serves, known.view.report.vms, known.view.is_gone) == ("queue.dispatch:/", 3, False)
    for room in (known.view.report.total, known.view.report.free):
        assert room is not None
        assert 55_000 < (room.time_left_ms or 0) <= 60_000


async def test_who_is_silent_for_a_grace_is_gone_and_listed_last(scene: Scene) -> None:
    await scene.store.report_launcher("local/a", REPORT, "")
    await age(scene.store, 61_000)
    await scene.store.report_launcher("local/b", REPORT, "")
    await scene.store.report_launcher("local/c", REPORT, "")

    assert [(known.view.launcher, known.view.is_gone) for known in await _known(scene)] == [
        ("local/b", False),
        ("local/c", False),
        ("local/a", True),
    ]


async def test_who_ended_or_was_silent_for_a_day_leaves_nothing(scene: Scene) -> None:
    for name in ("local/ended", "local/silent"):
        await scene.store.report_launcher(name, REPORT, "")
    await scene.store.remove_launcher("local/ended")
    keys = await scene.store._server.command("KEYS", "*:launcher:*")
    lives = [await scene.store._server.command("PTTL", key) for key in keys]
    await age(scene.store, DAY_MS + 1_000)
    await scene.store.report_launcher("local/other", REPORT, "")

    assert len(keys) == 1
    assert DAY_MS - 60_000 < lives[0] <= DAY_MS
    assert [each.launcher for each in await scene.store.heard_launchers()] == ["local/other"]


async def _flood(scene: Scene, subject: str) -> None:
    """Let as many launchers of a token be there as may be."""
    now_ms = await scene.store._now_ms()
    names = [part for number in range(LIMITS["launchers"].default) for part in (now_ms, f"{subject}/l{number}")]
    for key in (scene.store._keys.launchers, f"{scene.store._keys.launchers_of}{subject}"):
        await scene.store._server.command("ZADD", key, *names)


async def test_one_tokens_flood_is_refused_and_takes_no_room_of_anothers(scene: Scene) -> None:
    scene.launcher = "site/offers"
    await scene.store.report_launcher("local/known", REPORT, "")
    await _flood(scene, "site")

    with pytest.raises(Conflict, match="2000 launchers of this token are there"):
        await scene.store.report_launcher("site/new", REPORT, "")
    with pytest.raises(Conflict, match="give the others another token"):
        await scene.offer()
    await scene.store.report_launcher("site/l7", REPORT, "")
    await scene.store.report_launcher("local/new", REPORT, "")

    assert {known.view.launcher for known in await _known(scene)} == {"local/known", "local/new", "site/l7"}


async def test_who_is_gone_makes_room_for_the_next_of_its_token_and_leaves_nothing(scene: Scene) -> None:
    await scene.store.report_launcher("site/gone", REPORT, "")
    await age(scene.store, 61_000)
    await _flood(scene, "site")
    own = f"{scene.store._keys.launchers_of}site"
    await scene.store._server.command("ZREM", own, "site/l0")

    await scene.store.report_launcher("site/new", REPORT, "")

    assert [known.view.launcher for known in await _known(scene)] == ["site/new"]
    assert await scene.store._server.command("ZSCORE", own, "site/gone") is None
    assert await scene.store._server.command("EXISTS", scene.store._keys.launcher("site/gone")) == 0


async def test_those_that_are_there_are_listed_however_many_went(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.store.launchers.MAX_LISTED", 2)
    for name in ("local/a", "local/b", "local/c"):
        await scene.store.report_launcher(name, REPORT, "")
        await age(scene.store, 61_000)
    await scene.store.report_launcher("local/here", REPORT, "")

    assert [known.view.launcher for known in await _known(scene)] == ["local/here", "local/c"]


async def test_a_record_that_cannot_be_read_hides_no_other(scene: Scene) -> None:
    for name in ("local/a", "local/b"):
        await scene.store.report_launcher(name, REPORT, "")
    await scene.store._server.command("HSET", scene.store._keys.launcher("local/a"), "report", '{"total": 5}')

    assert [known.view.launcher for known in await _known(scene)] == ["local/b"]

import msgspec
import pytest

from broker.domain.errors import Unavailable
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


async def test_no_more_are_kept_than_the_limit_says_and_those_that_are_go_on(scene: Scene) -> None:
    most = LIMITS["launchers"].default
    server, key = scene.store._server, scene.store._keys.launchers
    await scene.store.report_launcher("local/known", REPORT, "")
    heard_ms = await server.command("ZSCORE", key, "local/known")
    many = [part for number in range(most) for part in (heard_ms, f"site/l{number}")]
    await server.command("ZADD", key, *many)

    await scene.store.report_launcher("local/known", REPORT, "")
    with pytest.raises(Unavailable, match="10000 launchers were heard of"):
        await scene.store.report_launcher("local/new", REPORT, "")

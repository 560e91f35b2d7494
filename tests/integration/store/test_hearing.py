"""Launchers that wait without asking for anything are heard of, many at once."""

from broker.store import Presence
from broker.wire.dispatches import DispatchRequest
from tests.integration.store.scene import ROOM, Scene


def _waiting(launcher: str, key: str = "a-new-key") -> DispatchRequest:
    return DispatchRequest(dispatch_key=key, launcher=launcher, node="node1", room=ROOM)


async def _heard(scene: Scene) -> set[str]:
    return set(await scene.store._server.command("ZRANGE", scene.store._keys.launchers, 0, -1))


async def test_all_are_heard_and_one_that_repeats_its_request_is_told_apart(scene: Scene) -> None:
    await scene.push(1)
    scene.launcher = "site/known"
    given = await scene.offer(key="given")
    assert given is not None
    requests = [_waiting("site/new"), _waiting("site/known", "given"), _waiting("other/new"), _waiting("site/known")]

    told = await scene.store.hear_many(requests)

    assert told == [Presence.HEARD, Presence.GIVEN, Presence.HEARD, Presence.HEARD]
    assert await _heard(scene) == {"site/new", "site/known", "other/new"}
    assert set(await scene.store.hear_many(requests)) == {Presence.HEARD, Presence.GIVEN}


async def test_no_token_has_more_of_them_than_it_may(scene: Scene) -> None:
    keys, server = scene.store._keys, scene.store._server
    now_ms = await scene.store._now_ms()
    there = [part for number in range(2_000) for part in (now_ms, f"site/l{number}")]
    await server.command("ZADD", f"{keys.launchers_of}site", *there)

    assert await scene.store.hear_many([_waiting("site/l7"), _waiting("site/one-more"), _waiting("other/l")]) == [
        Presence.HEARD,
        Presence.FULL,
        Presence.HEARD,
    ]

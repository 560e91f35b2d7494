"""Hold, release, cancel, pause, resume and purge, as a person types them."""

from tests.support.grid import Broker, Home
from tests.support.waiting import wait_until


def counts(broker: Broker, stream: str) -> dict[str, int]:
    view = broker.call("GET", f"/v1/streams/alice/{stream}", token=broker.token())
    return {state: number for state, number in view["counts"].items() if number}


def test_items_are_held_by_name_and_range_and_each_refusal_is_told(home: Home, broker: Broker, stream: str) -> None:
    home.ok("broker", "push", stream, "--count", "5")

    said = home.run("broker", "hold", f"{stream}/1", f"{stream}/3..4", f"{stream}/9", "--reason", "bad frames")

    assert said.status == 4
    assert said.out.splitlines() == [
        f"alice/{stream}/{number} is held: alice held it: bad frames" for number in (1, 3, 4)
    ]
    assert f"there is no item alice/{stream}/9" in said.err
    assert counts(broker, stream) == {"ready": 2, "held": 3}
    assert home.ok("broker", "why", f"{stream}/1") == (
        f"alice/{stream}/1 is held (attempts: 0, boots: 0): alice held it: bad frames\n"
    )
    assert home.ok("broker", "release", f"{stream}/1", f"{stream}/2").splitlines() == [
        f"alice/{stream}/1 is ready again",
        f"alice/{stream}/2 is ready again",
    ]


def test_a_whole_stream_is_held_released_and_cancelled(home: Home, broker: Broker, stream: str) -> None:
    home.ok("broker", "push", stream, "--count", "1200")

    assert home.ok("broker", "hold", stream, "--all", "--reason", "later") == "1200 items held\n"
    assert counts(broker, stream) == {"held": 1200}
    assert home.ok("broker", "release", stream, "--all") == "1200 items released\n"
    assert home.ok("broker", "cancel", stream, "--state", "ready") == "1200 items cancelled\n"
    assert "cancelled   1200" in home.ok("broker", "status", stream)
    assert counts(broker, stream) == {"cancelled": 1200}
    for wrong in (("cancel",), ("hold", stream, "other", "--all"), ("release", f"{stream}/9..3")):
        assert home.run("broker", *wrong).status == 2


def test_a_stream_is_paused_with_a_reason_and_resumed(home: Home, broker: Broker, stream: str) -> None:
    home.ok("broker", "push", stream, "--count", "2")

    assert home.ok("broker", "pause", stream, "--reason", "the share is down") == (
        f"alice/{stream} is paused: alice paused it: the share is down\n"
    )
    assert "paused: alice paused it: the share is down" in home.ok("broker", "status", stream)
    assert home.ok("broker", "resume", stream) == f"alice/{stream} gives out again, 2 items are ready\n"
    assert "paused:" not in home.ok("broker", "status", stream)


def test_a_stream_is_purged_when_it_is_meant(home: Home, broker: Broker, stream: str) -> None:
    home.ok("broker", "push", stream, "--count", "3")
    said = home.run("broker", "purge", stream)
    assert said.status == 2
    assert "cannot be undone: say --yes" in said.err
    assert counts(broker, stream) == {"ready": 3}

    assert home.ok("broker", "purge", stream, "--yes") == f"alice/{stream} is removed\n"

    wait_until(lambda: "there is no stream" in home.run("broker", "status", stream).err, "it is gone")


def test_items_are_pushed_with_a_class_and_a_delay(home: Home, broker: Broker, stream: str) -> None:
    home.ok("broker", "push", stream, "--count", "1", "--priority", "low")
    home.ok("broker", "push", stream, "--count", "1", "--delay", "2h")
    items = broker.call("GET", f"/v1/streams/alice/{stream}/items", token=broker.token())["items"]
    assert [(each["state"], each.get("priority", "normal")) for each in items] == [
        ("ready", "low"),
        ("delayed", "normal"),
    ]
    assert f"alice/{stream}/2 becomes ready at " in home.ok("broker", "why", f"{stream}/2")


def test_a_users_share_and_bounds_are_set_and_shown(home: Home, broker: Broker) -> None:
    set_ = home.ok("broker", "user", "set", "bob", "--weight", "2", "--most-items", "10")
    assert set_ == home.ok("broker", "user", "show", "bob")
    assert "0 of 10" in set_
    assert home.ok("broker", "user", "show").split()[:2] == ["user", "alice"]

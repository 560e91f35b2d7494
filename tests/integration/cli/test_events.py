import json
import subprocess
from pathlib import Path
from typing import Any

import redis

from tests.support.api import Api, run_item
from tests.support.grid import Broker, Home
from tests.support.waiting import wait_until


async def test_events_are_told_line_by_line_each_with_what_it_is_of(home: Home, stream: str, launcher: Api) -> None:
    home.ok("broker", "push", stream, "--count", "2")
    await run_item(launcher)

    told = [line[21:].split() for line in home.ok("broker", "events", stream).splitlines()]

    assert told[:3] == [
        ["stream.created", stream],
        ["items.pushed", stream, "1", "to", "2"],
        ["item.dispatched", f"{stream}/1", "n1"],
    ]
    assert ["vm.ended", f"{stream}/1", "done"] in told


def test_events_as_json_are_those_of_the_api_and_go_on_after_the_last_one(home: Home, stream: str) -> None:
    before = _events(home, stream)
    home.ok("broker", "push", stream, "--count", "1")
    [pushed] = _events(home, stream, "--after", before[-1]["id"])
    assert (pushed["type"], pushed["specversion"]) == ("org.vmbroker.items.pushed", "1.0")
    assert "position" not in pushed


def test_events_of_all_streams_go_on_after_the_last_position(home: Home, stream: str) -> None:
    last = _events(home)[-1]
    assert last["source"] == f"/streams/alice/{stream}"
    home.ok("broker", "push", stream, "--count", "1")
    [pushed] = _events(home, "--after", last["position"])
    assert _sequence(pushed["position"]) == _sequence(last["position"]) + 1
    assert "items.pushed" in home.ok("broker", "events", "--after", last["position"])


def test_what_is_no_longer_kept_is_told(home: Home, broker: Broker, stream: str) -> None:
    home.ok("broker", "push", stream, "--count", "1")
    with redis.Redis(unix_socket_path=str(broker.data / "store" / "store.sock")) as store:
        [log] = store.keys(f"*events:alice/{stream}")
        assert store.xtrim(log, maxlen=1, approximate=False)

    assert home.ok("broker", "events", stream).splitlines()[0] == "… earlier events are no longer kept"
    truncated = _events(home, stream)[0]["truncated"]
    assert (truncated["stream"], truncated["counts"]["ready"]) == (f"alice/{stream}", 1)


def test_following_shows_each_event_when_it_happens(home: Home, stream: str, tmp_path: Path) -> None:
    log = tmp_path / "events"
    words = [str(home.program("broker")), "events", stream, "--follow", "--output", "jsonl"]
    with log.open("wb") as file, subprocess.Popen(words, env=home.environment(), stdout=file) as following:
        try:
            wait_until(lambda: "stream.created" in log.read_text(), "what was there")
            home.ok("broker", "push", stream, "--count", "1")
            wait_until(lambda: "items.pushed" in log.read_text(), "what happened")
        finally:
            following.kill()
    assert [json.loads(line)["sequence"][-1] for line in log.read_text().splitlines()] == ["1", "2"]


def test_events_of_no_stream_and_after_no_id_are_refused(home: Home, stream: str) -> None:
    assert home.run("broker", "events", "nowhere").status == 4
    said = home.run("broker", "events", stream, "--after", "yesterday")
    assert (said.status, said.out) == (4, "")
    assert "no event's id" in said.err


def _events(home: Home, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in home.ok("broker", "events", *words, "--output", "jsonl").splitlines()]


def _sequence(place: str) -> int:
    return int(place.partition("-")[2])

"""Pushes that are large, faulty or interrupted. What they leave ready is why they have a broker of their own."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.grid import Broker, Home
from tests.support.waiting import wait_until


def total(broker: Broker, stream: str) -> int:
    view = broker.call("GET", f"/v1/streams/alice/{stream}", token=broker.token())
    return sum(view["counts"].values())


def key_in(text: str) -> str:
    match = re.search(r"push again with --key (\S+) to go on", text)
    assert match, text
    return match[1]


def test_a_fault_beyond_the_first_chunk_names_its_line_and_the_key_goes_on(
    home: Home, broker: Broker, stream: str, tmp_path: Path
) -> None:
    file = tmp_path / "list"
    good = [f"https://host.example/{number}" for number in range(1, 1003)]
    bad = [*good[:600], "", '{"url": "ftp://host.example/601"}', *good[601:]]
    file.write_text("\n".join(bad))

    said = home.run("broker", "push", stream, "--from", str(file))

    assert said.status == 4
    assert "broker: some items are not valid\n" in said.err
    assert f"  line 602 of {file}: 'ftp://host.example/601' is no address" in said.err
    assert f"500 of 1002 items were pushed (alice/{stream}/1 to alice/{stream}/500)" in said.err
    file.write_text("\n".join(good))
    again = home.ok("broker", "push", stream, "--from", str(file), "--key", key_in(said.err))
    assert f"alice/{stream}/1 to alice/{stream}/1002" in again
    assert total(broker, stream) == 1002


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_tells_what_was_pushed_and_how_to_go_on(home: Home, broker: Broker, stream: str, tmp_path: Path) -> None:
    log = tmp_path / "pushing"
    push = ("broker", "push", stream, "--count", "30000")
    program = Path(sys.executable).with_name("broker")
    with (
        log.open("wb") as file,
        subprocess.Popen([program, *push[1:]], env=home.environment(), stdout=file, stderr=file) as pushing,
    ):
        try:
            wait_until(lambda: total(broker, stream) >= 1000, "two chunks are there", timeout_s=30)
        finally:
            pushing.send_signal(signal.SIGINT)
        assert pushing.wait(20) == 130

    text = log.read_text()
    assert re.search(rf"[0-9]+ of 30000 items were pushed \(alice/{stream}/1 to alice/{stream}/[0-9]+\)", text)
    assert "Traceback" not in text
    home.ok(*push, "--key", key_in(text))
    assert total(broker, stream) == 30000


def test_large_items_are_cut_into_chunks_that_the_broker_takes(home: Home, broker: Broker, stream: str) -> None:
    lines = "\n".join(json.dumps({"params": {"text": f"{number:05}" * 2000}}) for number in range(700))
    push = ("broker", "push", stream, "--from", "-", "--key", "large")

    first = home.ok(*push, stdin=lines)
    home.ok(*push, stdin=lines)

    assert first == f"700 items pushed: alice/{stream}/1 to alice/{stream}/700\n"
    assert total(broker, stream) == 700


def test_a_repeated_push_says_that_nothing_was_added(home: Home, broker: Broker, stream: str) -> None:
    push = ("broker", "push", stream, "--count", "2", "--key", "once")

    assert home.ok(*push) == f"2 items pushed: alice/{stream}/1 to alice/{stream}/2\n"
    assert home.ok(*push) == (f"nothing was added, this key has pushed before: alice/{stream}/1 to alice/{stream}/2\n")


def test_words_that_are_no_files_are_told_in_one_sentence(
    home: Home, broker: Broker, stream: str, tmp_path: Path
) -> None:
    raw = tmp_path / "frame\udcff.txt"
    raw.write_bytes(b"x")
    for command in (
        ("broker", "push", stream, "w" * 300),
        ("broker", "push", stream, str(raw)),
        ("broker", "push", stream, "[/x] :fire:"),
        ("broker", "push", stream, "--count", "1", "--param", "k=\udcff"),
        ("broker", "file", "put", str(raw)),
        ("broker", "file", "put", str(raw), "../x"),
        ("broker", "file", "put", str(raw), "a//x"),
        ("broker", "file", "get", "file:alice/../x"),
    ):
        said = home.run(*command)

        assert said.status == 2, (command, said)
        assert "Traceback" not in said.err
        assert "[/x]" not in command[-1] or "[/x] :fire:" in said.err
    assert total(broker, stream) == 0


def test_a_dry_run_shows_where_files_would_go_and_adds_nothing(
    home: Home, broker: Broker, stream: str, tmp_path: Path
) -> None:
    shown = home.ok("broker", "push", stream, "https://host.example/1", "https://host.example/2", "--dry-run")
    assert "https://host.example/1" in shown
    assert f"file:alice/{stream}/2/1-00000000/out.txt" in shown
    assert f"2 items would be pushed to alice/{stream}; nothing was" in shown
    assert home.run("broker", "push", stream, "ftp://host.example/1", "--dry-run").status != 0
    (tmp_path / "f").write_bytes(b"x")
    assert "broker file put" in home.run("broker", "push", stream, str(tmp_path / "f"), "--dry-run").err
    assert total(broker, stream) == 0
    to = "https://up.example/in/{name}"
    words = ("--machine", "deb12", "--run", "x", "--output-to", to, "--access", "up.example X-Project: 7", "--dry-run")
    added = home.run("broker", "stream", "add", f"{stream}-dry", *words)
    assert "https://up.example/in/out.1-00000000.txt" in added.out, added
    assert "X-Project: 7" in added.out
    assert home.run("broker", "stream", "show", f"{stream}-dry").status != 0

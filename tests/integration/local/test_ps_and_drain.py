"""`launcher ps` and `launcher drain` beside real launchers."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.wire.launchers import Health
from launcher.node.scratch import PREFIX, scratch_folder
from launcher.node.state_file import STATE_FILE, LauncherState, started_ticks, write_state
from tests.support.grid import Broker, Home, free_port
from tests.support.launching import short_folder
from tests.support.waiting import wait_until

START_S = 120


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder("vmb-ps-") as folder:
        yield folder


@pytest.fixture
def broker() -> Iterator[Broker]:
    with short_folder("vmb-ps-") as folder:
        broker = Broker(Home(folder), free_port())
        with broker.serving():
            yield broker


def shown(home: Home, folder: Path) -> list[dict[str, Any]]:
    listed = json.loads(home.ok("launcher", "ps", "-o", "json", "--scratch", str(folder)))
    assert isinstance(listed, list)
    return listed


def is_up(home: Home, folder: Path) -> bool:
    return any(each["is_alive"] and each["state"] is not None for each in shown(home, folder))


@pytest.mark.timeout(300)
def test_a_launcher_is_shown_drained_and_gone_and_one_that_was_killed_is_left_over(broker: Broker) -> None:
    home, scratch = broker.home, broker.home.folder / "n"
    cache = ("--cache", str(home.folder / "c"))
    run = ("launcher", "run", "--name", "n1", "--scratch", str(scratch), *cache)
    with home.running(home.folder / "one.log", *run) as process:
        wait_until(lambda: is_up(home, scratch), "the launcher is shown", timeout_s=START_S, poll_s=0.5)
        (one,) = shown(home, scratch)
        assert (one["state"]["name"], one["state"]["pid"]) == ("n1", process.pid)
        assert one["state"]["health"].get("state", "healthy") == "healthy"
        text = home.ok("launcher", "ps", "--scratch", str(scratch))
        assert text.startswith("n1  healthy for ")
        assert f"process {process.pid}" in text
        assert home.run("launcher", "drain", "n2", "--scratch", str(scratch)).status == 2
        assert "n1" in home.ok("launcher", "drain", "n1", "--wait", "60", "--scratch", str(scratch))
        assert process.wait(10) == 0
    assert shown(home, scratch) == []
    with home.running(home.folder / "two.log", *run) as process:
        wait_until(lambda: is_up(home, scratch), "the launcher is shown", timeout_s=START_S, poll_s=0.5)
        process.kill()
        process.wait()
    assert [each["is_alive"] for each in shown(home, scratch)] == [False]
    assert "left over" in home.ok("launcher", "ps", "--scratch", str(scratch))


@pytest.fixture
def other() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is no launcher."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("is_recycled", [True, False])
def test_a_process_that_is_not_the_folders_launcher_gets_no_signal(
    folder: Path, other: "subprocess.Popen[bytes]", is_recycled: bool
) -> None:
    with scratch_folder(folder / "n") as its:
        ticks = started_ticks(other.pid)
        assert ticks is not None
        state = LauncherState(
            name="n1\x1b[2J",
            pid=other.pid,
            started_ticks=ticks - 1 if is_recycled else ticks,
            broker="http://broker",
            since="2026-01-01T00:00:00+00:00",
            written_at="2026-01-01T00:00:00+00:00",
            health=Health(),
            total=None,
            free=None,
            vm_count=0,
            vms=[],
            sources={},
        )
        write_state(its, state)
        if not is_recycled:
            # Somebody else's folder that names a process of ours.
            if os.geteuid() != 0:
                pytest.skip("only root looks into other accounts' folders")
            os.chown(its, 65534, 65534)
        said = Home(folder).run("launcher", "drain", "--all", "--scratch", str(folder / "n"))
        told = Home(folder).ok("launcher", "ps", "--scratch", str(folder / "n"))
    assert (said.status, "is not told" in said.err) == (1, True)
    assert "\x1b" not in said.err + told
    assert other.poll() is None


def test_what_is_no_launchers_folder_is_not_shown(folder: Path) -> None:
    (folder / f"{PREFIX}a").mkdir()
    (folder / f"{PREFIX}b").write_text("a file")
    with scratch_folder(folder) as its:
        (its / STATE_FILE).write_text("nonsense")
        listed = json.loads(Home(folder).ok("launcher", "ps", "-o", "json", "--scratch", str(folder)))
    assert [(each["is_alive"], each["state"]) for each in listed] == [(True, None)]

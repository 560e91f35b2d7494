"""`launcher ps` and `launcher drain` beside real launchers."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from broker.wire.dispatches import Room
from broker.wire.launchers import Health
from broker.wire.states import Accelerator, Phase
from launcher.local.launchers import CannotSignal, find_launchers, process_of
from launcher.node.scratch import LOCK_FILE, PREFIX, scratch_folder
from launcher.node.state_file import MAX_STATE_BYTES, STATE_FILE, LauncherState, started_ticks, write_state
from launcher.node.vms import VmSeen
from tests.support.grid import Broker, Home, free_port
from tests.support.launching import short_folder
from tests.support.waiting import wait_until

START_S = 120
EVIL = "n1\x1b[2J"
NOBODY = 65534
IS_ROOT = os.geteuid() == 0


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


def give_away(folder: Path) -> None:
    """Make a scratch folder another account's."""
    for path in (folder, folder / LOCK_FILE, folder / STATE_FILE):
        os.chown(path, NOBODY, NOBODY)


@pytest.fixture
def other() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is no launcher."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


def state_of(process: "subprocess.Popen[bytes]", ticks: int | None = None) -> LauncherState:
    """What a launcher would have written, were it that process, with text that would move a terminal's cursor."""
    ticks = started_ticks(process.pid) if ticks is None else ticks
    assert ticks is not None
    return LauncherState(
        name=EVIL,
        pid=process.pid,
        started_ticks=ticks,
        broker=EVIL,
        since="2026-01-01T00:00:00+00:00",
        written_at="2026-01-01T00:00:00+00:00",
        health=Health(),
        total=Room(vcpus=1, memory_mib=1, disk_mib=1, accelerator=Accelerator.TCG),
        free=None,
        vm_count=1,
        vms=[VmSeen(dispatch=EVIL, item=EVIL, phase=Phase.BOOTING, since=EVIL, vcpus=1, memory_mib=1)],
        sources={EVIL: EVIL},
    )


@pytest.mark.parametrize("is_recycled", [True, False])
def test_a_process_that_is_not_the_folders_launcher_gets_no_signal(
    folder: Path, other: "subprocess.Popen[bytes]", is_recycled: bool
) -> None:
    if not (is_recycled or IS_ROOT):
        pytest.skip("only root looks into other accounts' folders")
    with scratch_folder(folder / EVIL[:6]) as its:
        write_state(its, state_of(other, ticks=1 if is_recycled else None))
        if not is_recycled:
            give_away(its)
        said = Home(folder).run("launcher", "drain", "--all", "--scratch", str(its.parent))
        told = Home(folder).ok("launcher", "ps", "--scratch", str(its.parent))
    assert (said.status, "is not told" in said.err) == (1, True)
    assert "in a container" in said.err
    assert "\x1b" not in said.err + told
    assert other.poll() is None


@pytest.mark.skipif(not IS_ROOT, reason="only root looks into other accounts' folders")
def test_a_folder_exchanged_for_one_of_roots_after_the_look_gets_root_signal_nothing(
    folder: Path, other: "subprocess.Popen[bytes]"
) -> None:
    with scratch_folder(folder) as its:
        write_state(its, state_of(other))
        give_away(its)
        (found,) = find_launchers([folder])
        its.rename(folder / "away")
        try:
            its.symlink_to("/root")
            with pytest.raises(CannotSignal), process_of(found):
                pass
            its.unlink()
        finally:
            (folder / "away").rename(its)


@pytest.mark.skipif(not IS_ROOT, reason="only root can own what lies in another account's folder")
@pytest.mark.parametrize("name", [LOCK_FILE, STATE_FILE])
def test_a_file_of_another_account_than_the_folder_is_not_believed(
    folder: Path, other: "subprocess.Popen[bytes]", name: str
) -> None:
    with scratch_folder(folder) as its:
        write_state(its, state_of(other))
        os.chown(its / name, NOBODY, NOBODY)
        assert [found.state for found in find_launchers([folder])] == ([] if name == LOCK_FILE else [None])


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


HOSTILE: dict[str, Callable[[Path], object]] = {
    "link": lambda path: path.symlink_to("/etc/passwd"),
    "loop": lambda path: path.symlink_to(path),
    "socket": bind,
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "nested": lambda path: path.write_bytes(b'{"x":' + b"[" * 5_000),
    "not_utf8": lambda path: path.write_bytes(b'{"name":"\xff"}'),
    "large_number": lambda path: path.write_bytes(b'{"pid":' + b"9" * 5_000 + b"}"),
    "endless": lambda path: path.write_bytes(b" " * (MAX_STATE_BYTES + 1)),
}


@pytest.mark.parametrize("name", [LOCK_FILE, STATE_FILE])
@pytest.mark.parametrize("kind", HOSTILE)
def test_one_hostile_folder_hides_no_launcher(folder: Path, kind: str, name: str) -> None:
    with scratch_folder(folder) as its, ExitStack() as stack:
        hostile = folder / f"{PREFIX}!hostile"
        hostile.mkdir()
        (hostile / LOCK_FILE).touch()
        (hostile / name).unlink(missing_ok=True)
        HOSTILE[kind](hostile / name)
        if kind == "pipe":
            # Somebody who writes keeps who reads waiting for the end.
            stack.callback(os.close, os.open(hostile / name, os.O_RDWR))
        is_plain = name == STATE_FILE or ((hostile / name).is_file() and not (hostile / name).is_symlink())
        found = {each.folder: (each.is_alive, each.state) for each in find_launchers([folder])}
    assert found == {its: (True, None)} | ({hostile: (False, None)} if is_plain else {})


def test_a_name_of_any_bytes_is_shown_in_text_and_in_json(folder: Path) -> None:
    made = folder / os.fsdecode(PREFIX.encode() + b"\xff\x1b[2J")
    made.mkdir()
    (made / LOCK_FILE).touch()
    assert r"\x1b[2J" in Home(folder).ok("launcher", "ps", "--scratch", str(folder))
    (one,) = shown(Home(folder), folder)
    assert one["folder"] == str(made)


def test_what_is_no_launchers_folder_is_not_shown(folder: Path) -> None:
    (folder / f"{PREFIX}a").mkdir()
    (folder / f"{PREFIX}b").write_text("a file")
    with scratch_folder(folder) as its:
        (its / STATE_FILE).write_text("nonsense")
        listed = json.loads(Home(folder).ok("launcher", "ps", "-o", "json", "--scratch", str(folder)))
    assert [(each["is_alive"], each["state"]) for each in listed] == [(True, None)]


def test_with_a_sites_file_at_fault_launchers_are_looked_for_all_the_same(folder: Path) -> None:
    (folder / "site.toml").write_text("vmz = 1")
    said = Home(folder, {"VMBROKER_SITE": str(folder / "site.toml")}).run("launcher", "ps")
    assert (said.status, "`vmz` is no setting" in said.err, "looks in /tmp" in said.err) == (0, True, True)


def test_all_of_none_is_told(folder: Path) -> None:
    said = Home(folder).run("launcher", "drain", "--all", "--scratch", str(folder))
    assert (said.status, "no launcher runs here" in said.err) == (2, True)

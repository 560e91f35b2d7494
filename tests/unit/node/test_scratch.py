import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.node import scratch
from launcher.node.scratch import (
    LOCK_FILE,
    ScratchError,
    is_gone,
    mark_of,
    remove_leftovers,
    renew,
    scratch_folder,
)

LIMIT_S = 30
DIE_IN_IT = """\
import os, signal, sys
from pathlib import Path
from launcher.node.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "vm").mkdir()
    (folder / "vm" / "overlay").write_bytes(b"x")
    (folder / "log").write_bytes(b"x")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def parent() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vs-", dir="/tmp") as name:
        yield Path(name)


def killed_launchers_folder(parent: Path) -> Path:
    command = [sys.executable, "-c", DIE_IN_IT, str(parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return Path(done.stdout.strip())


def make_deep(folder: Path) -> None:
    """Make 2,000 folders one in the other, with files among them, and a path that is longer than any may be."""
    at = os.open(folder, os.O_RDONLY)
    for level in range(2_000):
        name = f"{level:04}" + "n" * 100
        os.mkdir(name, 0o700, dir_fd=at)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        deeper = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = deeper
    os.close(at)


def test_the_folder_is_gone_with_all_it_holds(parent: Path) -> None:
    with scratch_folder(parent) as folder:
        (folder / "vm").mkdir()
        (folder / "vm" / "overlay").write_bytes(b"x")
        (folder / "link").symlink_to(folder)
    assert list(parent.iterdir()) == []


def test_a_dead_launchers_folder_is_removed_and_a_living_ones_is_not(parent: Path) -> None:
    dead = killed_launchers_folder(parent)
    assert (dead / "vm" / "overlay").exists()
    with scratch_folder(parent) as living:
        assert not dead.exists()
        assert remove_leftovers(parent) == []
        assert living.exists()


def test_what_no_launcher_made_is_let_be_whatever_its_name_and_age(parent: Path) -> None:
    dead = killed_launchers_folder(parent)
    others = [parent / name for name in ("vmb-thesis", "vmb-node-thesis", "vmb-node-locked", "vmb-node-fifo", "other")]
    for other in others:
        other.mkdir()
        (other / "chapter").write_bytes(b"x")
    (parent / "vmb-node-locked" / "lock").write_text("a person's own")
    os.mkfifo(parent / "vmb-node-fifo" / "lock")
    shutil.copy(dead / "lock", parent / "other" / "lock")
    (parent / "vmb-node-link").symlink_to(parent / "other")
    for other in others:
        os.utime(other, (0, 0))
    assert remove_leftovers(parent) == [dead]
    assert all((other / "chapter").exists() for other in others)


def test_a_removal_that_was_cut_short_is_finished_by_the_next(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = killed_launchers_folder(parent)
    with monkeypatch.context() as patch:
        patch.setattr(scratch, "remove_tree", lambda path: None if path.name == "vm" else path.unlink())
        remove_leftovers(parent)
    assert (dead / "vm" / "overlay").exists()
    assert not (dead / "log").exists()
    assert remove_leftovers(parent) == [dead]
    assert not dead.exists()


def test_a_tree_deeper_than_any_stack_stops_neither_this_launcher_nor_the_next(parent: Path) -> None:
    dead = killed_launchers_folder(parent)
    make_deep(dead / "vm")
    with scratch_folder(parent) as living:
        assert not dead.exists()
        (living / "vm").mkdir()
        make_deep(living / "vm")
    assert list(parent.iterdir()) == []


def test_a_launcher_that_begins_is_at_no_moment_taken_for_a_dead_one(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[list[Path]] = []

    def look_before(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object) -> object:
            looks.append(remove_leftovers(parent))
            return call(*arguments)

        return wrapped

    monkeypatch.setattr(scratch, "_hold", look_before(scratch._hold))
    monkeypatch.setattr(Path, "rename", look_before(Path.rename))
    with scratch_folder(parent) as folder:
        looks.append(remove_leftovers(parent))
        assert folder.exists()
    assert looks == [[], [], []]


def test_a_folder_too_deep_for_sockets_is_refused_with_what_to_do(parent: Path) -> None:
    deep = parent / ("d" * 60)
    with pytest.raises(ScratchError, match="name a scratch folder with a shorter path"), scratch_folder(deep):
        pass
    assert list(deep.iterdir()) == []


def test_a_parent_that_is_a_file_is_refused(parent: Path) -> None:
    (parent / "file").touch()
    with pytest.raises(ScratchError, match="name another one"), scratch_folder(parent / "file"):
        pass
    assert [path.name for path in parent.iterdir()] == ["file"]


def test_a_launcher_whose_lock_file_was_cleared_away_is_not_gone_while_it_lives(parent: Path) -> None:
    with scratch_folder(parent) as folder:
        mark = mark_of(folder)
        (folder / LOCK_FILE).unlink()
        assert not is_gone(mark)
        folder.rename(parent / "elsewhere")
        assert is_gone(mark)
        (parent / "elsewhere").rename(folder)
    shutil.rmtree(folder)


def test_a_lock_that_is_renewed_does_not_look_old(parent: Path) -> None:
    with scratch_folder(parent) as folder:
        os.utime(folder / LOCK_FILE, (0, 0))
        renew(folder)
        assert (folder / LOCK_FILE).stat().st_mtime > 0

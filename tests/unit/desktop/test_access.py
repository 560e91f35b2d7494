import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.desktop.access import check_readable
from broker.desktop.failure import DesktopFailure
from broker.desktop.scratch import ROOTS_FOLDER, check_room, scratch_folder, usual_folder

NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Not be root for the block: root may read everything."""
    mine = os.geteuid()
    os.seteuid(mine or NOBODY)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_a_file_of_roots_is_told_with_the_command_that_makes_a_copy(tmp_path: Path) -> None:
    disk = tmp_path / "a disk.qcow2"
    disk.touch(mode=0)

    with unprivileged(), pytest.raises(DesktopFailure) as raised:
        check_readable("disk vda", disk, "--disk vda")

    assert f"`sudo install -m 600 -o $(id -u) '{disk}' ~/'a disk.qcow2'`" in str(raised.value)
    assert "add --disk vda=~/a disk.qcow2" in str(raised.value)
    assert """`sudo -E "$(command -v broker)" machine add …`""" in str(raised.value)


def test_a_running_machines_disk_of_roots_is_not_to_be_copied_by_hand(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    disk.touch(mode=0)

    with unprivileged(), pytest.raises(DesktopFailure, match=r"only root may read.*sudo -E") as raised:
        check_readable("disk vda", disk, "--disk vda", is_live=True)

    assert "install" not in str(raised.value)


@pytest.mark.parametrize(
    ("acting", "owner", "is_in_the_home"), [(0, NOBODY, False), (0, 0, True), (NOBODY, NOBODY, True)]
)
def test_root_makes_no_folder_in_somebody_elses_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acting: int, owner: int, is_in_the_home: bool
) -> None:
    status = list(tmp_path.stat())
    status[stat.ST_UID] = owner
    monkeypatch.setattr(Path, "stat", lambda _, **__: os.stat_result(status))
    monkeypatch.setattr(os, "geteuid", lambda: acting)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert usual_folder() == (tmp_path / ".cache/vmbroker/desktop" if is_in_the_home else ROOTS_FOLDER)


@pytest.mark.parametrize(("name", "sentence"), [("none", "there is no file"), ("", "is no file and no disk")])
def test_what_is_no_file_is_told(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(DesktopFailure, match=f"{sentence}.*--disk vda=PATH"):
        check_readable("disk vda", tmp_path / name, "--disk vda")


def test_a_scratch_folder_is_removed_whatever_happens_and_a_killed_commands_too(tmp_path: Path) -> None:
    (tmp_path / "machine-of-a-killed-command").mkdir()
    with scratch_folder(tmp_path) as folder:
        (folder / "copy").touch()
        with pytest.raises(ZeroDivisionError), scratch_folder(tmp_path):
            1 / 0  # noqa: B018 # any error
        assert list(tmp_path.iterdir()) == [folder]

    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_does_not_fit_is_refused_before_it_is_begun(tmp_path: Path) -> None:
    check_room(tmp_path, 1)
    with pytest.raises(DesktopFailure, match="--work-folder"):
        check_room(tmp_path, 1 << 60)

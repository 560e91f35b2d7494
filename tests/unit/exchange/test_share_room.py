"""What a guest that means harm may put into its share."""

import os
from pathlib import Path

import pytest

from launcher.exchange import share_room
from launcher.exchange.share_room import MAX_DEPTH, why_too_much

MIB = 1 << 20


def test_what_is_written_counts_wherever_it_lies_and_once_whatever_its_names(tmp_path: Path) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "file").write_bytes(os.urandom(MIB))
    for number in range(3):
        (tmp_path / f"name-{number}").hardlink_to(tmp_path / "out" / "deep" / "file")
    assert why_too_much(tmp_path, 2) is None

    (tmp_path / "in").write_bytes(os.urandom(MIB))
    assert "more than the 2 MiB of the stream's needs.disk_mib" in (why_too_much(tmp_path, 2) or "")


def test_a_file_that_seems_large_and_takes_nothing_is_no_harm(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 * MIB)

    assert why_too_much(tmp_path, 1) is None


def test_too_many_entries_are_refused_however_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share_room, "MAX_ENTRIES", 10)
    for number in range(11):
        (tmp_path / str(number)).symlink_to("/nowhere")

    assert "more than 10 files and folders" in (why_too_much(tmp_path, 1) or "")


def test_folders_too_deep_are_refused_without_going_down_them(tmp_path: Path) -> None:
    (tmp_path / "/".join("d" * MAX_DEPTH)).mkdir(parents=True)
    assert why_too_much(tmp_path, 1) is None

    (tmp_path / "/".join("d" * 400)).mkdir(parents=True)
    assert f"more than {MAX_DEPTH} levels" in (why_too_much(tmp_path, 1) or "")


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/usr")

    assert why_too_much(tmp_path, 1) is None

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from launcher.node.removal import remove_tree


def test_folders_that_nobody_may_enter_are_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    kept, tree = tmp_path / "kept", tmp_path / "tree"
    kept.mkdir()
    (kept / "file").write_bytes(b"x")
    for branch in ("a", "b"):
        (tree / branch / "shut" / "deeper").mkdir(parents=True)
        (tree / branch / "shut" / "file").write_bytes(b"x")
        (tree / branch / "shut" / "folder").symlink_to(kept)
        os.mkfifo(tree / branch / "pipe")
        (tree / branch / "shut").chmod(0)
    (tree / "link").symlink_to(kept)

    remove_tree(tree)

    assert not tree.exists()
    assert (kept / "file").exists()


def test_what_is_no_folder_is_removed_and_what_is_gone_is_let_be(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")

    remove_tree(tmp_path / "link")
    remove_tree(tmp_path / "gone")

    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_stays_is_told_and_keeps_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree" / "folder").mkdir(parents=True)
    for name in ("other", "stubborn"):
        (tmp_path / "tree" / "folder" / name).write_bytes(b"x")
    unlink = os.unlink

    def refuse_one(name: str, *, dir_fd: int | None = None) -> None:
        if name == "stubborn":
            raise PermissionError(1, "not permitted")
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse_one)
    with capture_logs() as logs:
        remove_tree(tmp_path / "tree")

    assert [path.name for path in (tmp_path / "tree").rglob("*")] == ["folder", "stubborn"]
    assert [entry["event"] for entry in logs] == ["folder_not_removed"]
    monkeypatch.undo()
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()

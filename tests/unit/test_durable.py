import os
from pathlib import Path

import pytest

from launcher.durable import rename_durably


def test_the_whole_file_is_on_disk_before_its_name_and_then_the_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    fsync, path = os.fsync, tmp_path / "image"

    def record(descriptor: int) -> None:
        synced.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    draft = tmp_path / "draft"
    draft.write_bytes(b"whole")
    draft.chmod(0o444)
    rename_durably(draft, path)
    assert synced == [(str(draft), False), (str(tmp_path), True)]
    assert path.read_bytes() == b"whole"


def test_a_disk_that_cannot_take_the_file_leaves_the_name_to_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    (tmp_path / "draft").write_bytes(b"new")
    (tmp_path / "image").write_bytes(b"old")
    with pytest.raises(OSError, match="Input/output error"):
        rename_durably(tmp_path / "draft", tmp_path / "image")
    assert (tmp_path / "image").read_bytes() == b"old"

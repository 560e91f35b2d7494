import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.node.scratch import ScratchError, remove_leftovers, scratch_folder


@pytest.fixture
def parent() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vs-", dir="/tmp") as name:
        yield Path(name)


def test_the_folder_is_gone_with_all_it_holds(parent: Path) -> None:
    with scratch_folder(parent) as folder:
        (folder / "vm").mkdir()
        (folder / "vm" / "overlay").write_bytes(b"x")
    assert list(parent.iterdir()) == []


def test_a_dead_launchers_folder_is_removed_and_a_living_ones_is_not(parent: Path) -> None:
    dead = parent / "vmb-dead"
    dead.mkdir()
    (dead / "lock").touch()
    (dead / "overlay").write_bytes(b"x")
    with scratch_folder(parent) as living:
        assert not dead.exists()
        assert remove_leftovers(parent) == []
        assert living.exists()


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

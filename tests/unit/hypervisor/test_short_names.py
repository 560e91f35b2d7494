import os
import time
from pathlib import Path

from launcher.hypervisor.short_names import LONGEST_FOLDER_BYTES, remove_dead_names, short_name

LONG_AGO_S = time.time() - 31 * 86_400


def test_old_links_whose_folders_are_gone_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "vmb-0123abcd").symlink_to(tmp_path / "gone")
    kept = {"vmb-4567abcd": tmp_path / "there", "vmb-somebodys": tmp_path / "gone", "other": tmp_path / "gone"}
    for name, target in kept.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "vmb-89abcdef").write_text("a file of that name")
    for path in tmp_path.iterdir():
        os.utime(path, (LONG_AGO_S, LONG_AGO_S), follow_symlinks=False)
    # A launcher that is there may have its folder on a file system that only it sees.
    kept["vmb-feedbeef"] = tmp_path / "gone"
    (tmp_path / "vmb-feedbeef").symlink_to(tmp_path / "gone")
    remove_dead_names(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"there", "vmb-89abcdef", *kept}


def test_a_long_folder_has_a_short_name_for_the_time_and_a_short_one_its_own(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    with short_name(folder) as name:
        assert name.resolve() == folder.resolve()
        assert len(bytes(name)) <= LONGEST_FOLDER_BYTES
    assert not name.is_symlink()
    with short_name(Path("/tmp")) as own:
        assert own == Path("/tmp")

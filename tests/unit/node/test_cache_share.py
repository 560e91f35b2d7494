from pathlib import Path

import pytest

from launcher.slot import Given, read_slot
from launcher.slot.cache_share import share_of_cache
from launcher.slot.words import Surroundings

IMAGE_MIB = 8


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of one image for all, and one of this account's alone."""
    folder = tmp_path / "cache"
    (folder / "own-1").mkdir(parents=True)
    for path in (folder / "sha256-1", folder / "own-1" / "sha256-2"):
        path.write_bytes(b"x" * (IMAGE_MIB << 20))
    return folder


def test_a_disk_of_both_is_divided_and_nothing_of_it_promised_twice(cache: Path) -> None:
    alone = read_slot(Given(), cache.parent, Surroundings({}))
    both = read_slot(Given(), cache.parent, Surroundings({}), cache)
    assert both.cache_mib is not None
    grows_mib = both.cache_mib - 2 * IMAGE_MIB
    # Others write to the disk meanwhile.
    assert abs(alone.disk_mib.value - both.disk_mib.value - grows_mib) < alone.disk_mib.value / 50
    assert "less" in both.disk_mib.source


def test_a_cache_takes_from_the_slot_what_it_may_yet_grow(cache: Path) -> None:
    assert share_of_cache(cache, cache.parent, cache_mib=20, disk_mib=None) == (20, 20 - 2 * IMAGE_MIB)
    assert share_of_cache(cache, cache.parent, cache_mib=5, disk_mib=None) == (5, 0)


def test_a_persons_word_on_the_slot_and_another_disk_leave_the_cache_its_own_bound(cache: Path) -> None:
    assert share_of_cache(cache, cache.parent, cache_mib=None, disk_mib=1) == (None, 0)
    assert share_of_cache(cache, Path("/proc"), cache_mib=None, disk_mib=None) == (None, 0)

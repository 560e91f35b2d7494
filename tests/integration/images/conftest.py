import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.hypervisor.account import Account
from launcher.images import ImageCache, Mirrors
from launcher.node.image_looks import look_as

MakeCache = Callable[..., ImageCache]


@pytest.fixture
def make_cache(open_path: Path) -> MakeCache:
    """Make caches, each as a launcher of its own, over one folder and with one memory of this account."""

    def make(*, limit_mib: int | None = None, mirrors: Mirrors | None = None, memory: str = "memory") -> ImageCache:
        run = look_as(Account.choose())
        memory_folder = open_path / memory
        cache = ImageCache(open_path / "cache", run, limit_mib=limit_mib, mirrors=mirrors, memory=memory_folder)
        cache.prepare()
        return cache

    return make


@pytest.fixture
def cache(make_cache: MakeCache) -> ImageCache:
    return make_cache()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.images.download._PAUSE_S", 0.005)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Return a folder which every account may enter, as QEMU's must."""
    # Not pytest's own, which is closed to other accounts.
    folder = Path(tempfile.mkdtemp(prefix="vmb-images-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)

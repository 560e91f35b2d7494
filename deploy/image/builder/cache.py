"""Built products, named by the digest of their recipe; one builder at a time, and nothing half-made to be seen.

CACHE/images/NAME-DIGEST/disk.qcow2     the image, or:
                         root/          the folder of a clean root, or what a batch system's programs run of
                         bin/ sbin/     a batch system's programs
                         inputs/        files for the machine's program, if the recipe makes any
                         recipe.json    what went in and what came out
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .run import BuildFailed, as_root, run, tail

SOURCES = Path(__file__).resolve().parent.parent
DIGEST_HEX = 16


@dataclass(frozen=True)
class Workplace:
    """Where a recipe works: everything outside `result` is thrown away."""

    scratch: Path
    result: Path
    log: Path
    digest: str

    @property
    def disk(self) -> Path:
        return self.result / "disk.qcow2"

    @property
    def root(self) -> Path:
        return self.result / "root"


@dataclass(frozen=True)
class Recipe:
    """One image, or another product: `build` fills `Workplace.result` and returns what recipe.json is to tell."""

    name: str
    suite: str
    about_s: int
    sources: tuple[str, ...]
    build: Callable[[Workplace], dict[str, str]]
    product: str = "guest image"

    @property
    def title(self) -> str:
        return f"{self.product} {self.name}"

    @property
    def digest(self) -> str:
        return digest_of([path for source in self.sources for path in files_below(SOURCES / source)], SOURCES)


def ensure(recipe: Recipe, say: Callable[[str], None]) -> Path:
    """The folder of a recipe's product, built now unless it is there. Older builds of the same recipe are removed.

    Raises:
        BuildFailed: nothing of the attempt is left.
    """
    images = cache_folder() / "images"
    folder = images / f"{recipe.name}-{recipe.digest}"
    title = f"setup: {recipe.title}"
    if folder.is_dir():
        say(f"{title}: already there")
        return folder
    images.mkdir(parents=True, exist_ok=True)
    with _locked(images / f".{recipe.name}.lock", waiting=lambda: say(f"{title}: waiting for another build of it")):
        if folder.is_dir():
            say(f"{title}: already there")
            return folder
        say(f"{title}: building (about {_span(recipe.about_s)})")
        facts = _build(recipe, folder)
        for old in images.glob(f"{recipe.name}-*"):
            if old != folder:
                _remove(old)
        say(f"{title}: built in {facts['seconds']} s, {_size_bytes(folder) / 2**20:.0f} MiB")
    return folder


def _build(recipe: Recipe, folder: Path) -> dict[str, object]:
    work = folder.with_name(f".{recipe.name}-building")
    _remove(work)
    place = Workplace(work / "scratch", work / "result", work / "build.log", recipe.digest)
    start = time.monotonic()
    try:
        for part in (place.scratch, place.result):
            part.mkdir(parents=True)
        packages = recipe.build(place)
        facts = _facts(recipe, place, packages, seconds=round(time.monotonic() - start))
        (place.result / "recipe.json").write_text(json.dumps(facts, indent=2) + "\n")
        place.result.rename(folder)
    except OSError as error:
        raise BuildFailed(f"cannot be built: {error}", tail(place.log)) from error
    finally:
        _remove(work)
    return facts


def _facts(recipe: Recipe, place: Workplace, packages: dict[str, str], *, seconds: int) -> dict[str, object]:
    inputs = place.result / "inputs"
    return {
        "name": recipe.name,
        "recipe": recipe.digest,
        "suite": recipe.suite,
        "seconds": seconds,
        **({"disk": _disk_facts(place.disk)} if place.disk.exists() else {}),
        "inputs": sorted(path.name for path in inputs.iterdir()) if inputs.is_dir() else [],
        "packages": dict(sorted(packages.items())),
    }


def _disk_facts(disk: Path) -> dict[str, object]:
    with disk.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file": disk.name, "digest": f"sha256:{digest}", "size_bytes": disk.stat().st_size}


def _size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))


def cache_folder() -> Path:
    """`VMBROKER_CACHE`, else `vmbroker` in the account's cache folder."""
    named = os.environ.get("VMBROKER_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vmbroker"


def files_below(path: Path) -> list[Path]:
    if path.is_file() or path.is_symlink():
        return [path]
    return sorted(found for found in path.rglob("*") if not found.is_dir() and "__pycache__" not in found.parts)


def digest_of(files: list[Path], root: Path) -> str:
    """A digest of files' names below `root`, contents and whether they can be run."""
    whole = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        runs = bool(path.stat().st_mode & 0o100)
        whole.update(f"{path.relative_to(root)}\0{runs}\0{content}\n".encode())
    return whole.hexdigest()[:DIGEST_HEX]


@contextmanager
def _locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    # The lock belongs to the open file: it is free again when all who have it open ended, however they ended. The
    # programs that a builder runs inherit it, so what they still do after a killed builder meets no other one.
    with path.open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    if work.exists():  # what belongs to subordinate ids, only the namespace's root may delete
        run([*as_root(), "rm", "-rf", "--one-file-system", work], Path(os.devnull))


def _span(seconds: int) -> str:
    return f"{seconds} s" if seconds < 90 else f"{round(seconds / 60)} minutes"

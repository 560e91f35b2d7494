"""Programs of another Debian release, run on this machine's own root by any account, with nothing installed for them.

A tree is what some packages hold, unpacked in `root/`, and beside it `bin/` and `sbin/`: a wrapper for each program,
which starts it by the tree's own loader with the tree's own libraries. None of that is inherited: what such a program
starts finds the machine as it is. A wrapper finds its tree by its own path, so a tree may be moved, copied and linked.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from . import packages
from .cache import Workplace
from .packages import only
from .run import BuildFailed, output_of

ELF: Final = b"\x7fELF"
_LIBRARIES: Final = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib")
_UNPACKERS: Final = 2
_WRAPPER: Final = """\
#!/bin/sh
self=$(readlink -f "$0")
tree=${{self%/*/*}}/root
exec "$tree/{loader}" --library-path "{libraries}" --argv0 "$0" "$tree/{program}" {words}"$@"
"""


@dataclass(frozen=True)
class Tree:
    """A tree in the making: its folder, and where below its root the loader and the libraries are."""

    folder: Path
    loader: str
    libraries: tuple[str, ...]

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def with_libraries(self, *folders: str) -> "Tree":
        """Return the tree with further folders of libraries, below its root."""
        return replace(self, libraries=(*self.libraries, *folders))

    def wrap(self, wrapper: str, program: Path, *words: str) -> None:
        """Write a wrapper, such as `bin/NAME`, that runs a program of the root folder with `words` before its own.

        `$tree` in a word is the root folder.
        """
        text = _WRAPPER.format(
            loader=self.loader,
            libraries=":".join(f"$tree/{folder}" for folder in self.libraries),
            program=program.relative_to(self.root),
            words="".join(f'"{word}" ' for word in words),
        )
        path = self.folder / wrapper
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o755)
        path.write_text(text)
        path.chmod(0o755)

    def wrap_all(self, into: str, programs: Sequence[Path]) -> None:
        """Wrap those that are ELF programs or links to one, each by its name."""
        for program in programs:
            if is_elf(program) and program.suffix != ".so":
                self.wrap(f"{into}/{program.name}", program)

    def check(self, programs: Sequence[Path]) -> None:
        """See that the tree has every library that those of `programs` that are ELF files are linked with.

        Raises:
            BuildFailed: one is missing: `but` of `unpack` keeps it out, or it is in a folder that is not kept.
        """
        elves = [program for program in programs if is_elf(program) and not program.is_symlink()]
        with ThreadPoolExecutor(_UNPACKERS) as pool:
            list(pool.map(self._check, elves))

    def _check(self, program: Path) -> None:
        path = ":".join(str(self.root / folder) for folder in self.libraries)
        for line in output_of([self.root / self.loader, "--library-path", path, "--list", program]).splitlines():
            name, arrow, target = line.strip().partition(" => ")
            if arrow and not target.startswith(str(self.root)):
                raise BuildFailed(f"{program.name} of the unpacked packages lacks {name}")


def unpack(
    place: Workplace, suite: str, names: Sequence[str], *, but: str, kept: Sequence[str]
) -> tuple[Tree, dict[str, str]]:
    """Make a tree of packages and all that they depend on, less those whose whole name matches `but`.

    Of their files stay the shared libraries and what the patterns `kept` name. Wrappers are the caller's to write.

    Returns:
        The tree, and the packages' versions.
    """
    debs = packages.download_closure(suite, names, but, place.scratch / "debs", place.log)
    unpacked = place.scratch / "unpacked"
    with ThreadPoolExecutor(_UNPACKERS) as pool:
        list(pool.map(partial(packages.unpack, into=unpacked, log=place.log), debs))
    for pattern in (*kept, *(f"{folder}/*.so*" for folder in _LIBRARIES)):
        for path in unpacked.glob(pattern):
            _move(path, place.root / path.relative_to(unpacked))
    for path in (place.result, place.root, *place.root.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)  # whatever the builder's umask
    loader = only(place.root, "**/ld-linux-x86-64.so.2")
    libraries = tuple(folder for folder in _LIBRARIES if (place.root / folder).is_dir())
    return Tree(place.result, str(loader.relative_to(place.root)), libraries), packages.file_versions(debs)


def expect_version(versions: dict[str, str], package: str, major: str, suite: str) -> None:
    """See that the suite still has the version that these programs' users know.

    Raises:
        BuildFailed: it has another one.
    """
    found = versions.get(package, "no")
    if not found.startswith(f"{major}."):
        raise BuildFailed(
            f"Debian {suite} has {package} {found} now, and this recipe is for {major}: set VMBROKER_DEBIAN_ARCHIVE "
            f"to a snapshot of the archive that has it, or adapt the recipe and what the tests know of it"
        )


def is_elf(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(ELF)) == ELF


def _move(path: Path, to: Path) -> None:
    if to.exists() or to.is_symlink():  # an earlier pattern's
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, to)

"""Whose work a bundle carries, and under which terms: the file NOTICE, and the licences beside it."""

import importlib.metadata
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from launcher.bundle.layout import LICENCES, NOTICE

_QUERY_LIMIT_S: Final = 60
_LICENCE_NAMES: Final = ("licen", "copying", "notice", "authors")
_HEADING: Final = """\
This bundle carries the following work of others beside vmbroker, unchanged. The terms are in the folder licences.
share/guest-disk.img holds a part of the same files once more. A library may be replaced by one of the same name.
"""


def notices(distributions: Iterable[str], binaries: Iterable[Path]) -> dict[PurePosixPath, bytes]:
    """Return NOTICE and the licences, by path in the bundle, of distributions and of this machine's binaries."""
    lines, licences = [_HEADING, "Python packages:"], dict[PurePosixPath, bytes]()
    for name in distributions:
        found = importlib.metadata.distribution(name)
        lines.append(f"  {name} {found.version}: {_terms(found)}")
        for file in found.files or []:
            if file.parts[0].endswith(".dist-info") and file.name.lower().startswith(_LICENCE_NAMES):
                licences[LICENCES / name / file.name] = Path(str(file.locate())).read_bytes()
    lines += ["", "The interpreter, the loader and libraries:"]
    for binary, package in sorted(_packages(binaries).items()):
        lines.append(f"  {binary.name}: {package or 'of no package that this machine knows'}")
        terms = Path("/usr/share/doc", package.partition(" ")[0], "copyright")
        if package and terms.is_file():
            licences[LICENCES / terms.parent.name / terms.name] = terms.read_bytes()
    return {NOTICE: ("\n".join(lines) + "\n").encode(), **licences}


def _terms(distribution: importlib.metadata.Distribution) -> str:
    told = distribution.metadata.get_all("License-Expression") or distribution.metadata.get_all("License") or []
    classes = [
        line.rpartition(" :: ")[2]
        for line in distribution.metadata.get_all("Classifier") or []
        if line.startswith("License :: ")
    ]
    first = next((text.strip().splitlines()[0] for text in told if text.strip()), "")
    return first or ", ".join(classes) or "see its licence"


def _packages(binaries: Iterable[Path]) -> dict[Path, str]:
    """Find name and version of the Debian package of each file; without dpkg, or of no package, it is empty."""
    files = dict.fromkeys((file.resolve() for file in binaries), "")
    # Where /lib is a link to /usr/lib, dpkg knows a file by the name that its package has for it.
    names = {
        str(name): file
        for file in files
        for name in (file, Path("/", file.relative_to("/usr")) if _in_usr(file) else file)
    }
    owners = {
        name: line.partition(":")[0]
        for line in _dpkg("--search", *names)
        if (name := line.rpartition(": ")[2]) in names
    }
    versions = dict(
        line.split("\t")
        for line in _dpkg("--show", "--showformat=${Package}\\t${Version}\\n", *sorted(set(owners.values())))
    )
    for name, owner in owners.items():
        files[names[name]] = f"{owner} {versions.get(owner, '')}".strip()
    return files


def _in_usr(file: Path) -> bool:
    return file.is_relative_to("/usr")


def _dpkg(*arguments: str) -> Iterator[str]:
    try:
        # It ends with 1 where it does not know one of the files, and tells the others all the same.
        told = subprocess.run(
            ["dpkg-query", *arguments], capture_output=True, text=True, timeout=_QUERY_LIMIT_S, check=False
        )
    except FileNotFoundError:
        return
    yield from told.stdout.splitlines()

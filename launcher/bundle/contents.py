"""What goes into a bundle: files of this machine, and small ones made here."""

import fnmatch
import importlib.metadata
import importlib.util
import json
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from launcher.bundle.failure import CannotBundle
from launcher.bundle.layout import AUTHORITIES, GUEST_DISK, INTERPRETER, LAUNCHER, LIBRARIES, SITE, START, VERSION
from launcher.bundle.notices import notices
from launcher.bundle.scripts import launcher_script, start_script
from launcher.carried import MARK
from launcher.guest_disk import GuestDisk
from launcher.guest_disk.contents import (
    SHARED_OBJECT,
    STANDARD_LIBRARY,
    authority_files,
    client_version,
    distributions,
    interpreter,
)
from launcher.guest_disk.image import compiled
from launcher.guest_disk.libraries import find_libraries
from launcher.node_files import IN_BUNDLE, node_files

_OURS: Final = "vmbroker"
_EXTRA: Final = "launcher"
CONDOR: Final = "htcondor"
"""HTCondor's bindings: the distribution, and what of it is carried: its own command line is not."""
_CONDOR_FOLDERS: Final = {"classad2", "htcondor2", "htcondor.libs"}
_OUR_KINDS: Final = {".lua", ".py", ".service", ".sh", ".typed"}
_OUR_PACKAGES: Final = ("launcher", "broker.wire", "broker.client")

# Large, and nothing that a server without a screen imports; top-level names of the standard library.
_LEFT_OUT: Final = (
    "__phello__*", "config-*", "curses", "dbm", "dist-packages", "distutils", "ensurepip", "idlelib", "lib2to3",
    "msilib", "pydoc_data", "site-packages", "sqlite3", "test", "tkinter", "turtle*", "venv",
)  # fmt: skip
_LEFT_OUT_EXTENSIONS: Final = (
    "_ctypes_test.*", "_curses*", "_dbm.*", "_gdbm.*", "_sqlite3.*", "_test*", "_tkinter.*", "_xx*", "nis.*",
    "ossaudiodev.*", "readline.*", "xx*",
)  # fmt: skip
_TESTS: Final = {"__pycache__", "test", "tests"}
# For compilers and for type checkers.
_NOT_FOR_RUNNING: Final = {".c", ".h", ".pxd", ".pxi", ".pyc", ".pyi", ".pyx"}
_KEPT_METADATA: Final = {"METADATA", "entry_points.txt"}


class Member(NamedTuple):
    """One file of the bundle: a file of this machine, or its content."""

    path: PurePosixPath
    content: Path | bytes
    is_program: bool = False

    def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


def list_members(guest_disk: GuestDisk, *, has_condor: bool = False) -> list[Member]:
    """List every file but the manifest, sorted by path.

    Args:
        guest_disk: A finished one.
        has_condor: Carry HTCondor's bindings, too.

    Raises:
        CannotBundle, CannotBuildGuestDisk: a part is not installed here.
    """
    names = sorted({*distributions([_OURS], extra=_EXTRA), *(_condor() if has_condor else ())})
    sources = [Member(INTERPRETER, interpreter(), is_program=True), *_standard_library(), *_our_packages()]
    for name in names:
        sources += _distribution(name)
    libraries = find_libraries(_binaries(sources))
    loader = LIBRARIES / libraries.loader.name
    # What a package brings for itself it finds beside it, by its own RPATH.
    brought = {source.content for source in sources}
    found = {name: file for name, file in libraries.files.items() if file not in brought}
    files = {loader.name: libraries.loader, **found}
    members = [
        *_with_compiled(sources),
        *(Member(LIBRARIES / name, file, is_program=name == loader.name) for name, file in files.items()),
        *(Member(path, text) for path, text in notices(names, [interpreter(), *files.values()]).items()),
        *(Member(AUTHORITIES, file) for file in authority_files()[:1]),
        *_node_files(),
        Member(GUEST_DISK, guest_disk.path),
        Member(VERSION, f"{client_version()}\n".encode()),
        Member(PurePosixPath(MARK), _mark(loader, guest_disk)),
        Member(START, start_script()),
        Member(LAUNCHER, launcher_script(loader), is_program=True),
    ]
    return sorted({member.path: member for member in members}.values(), key=lambda member: member.path)


def _mark(loader: PurePosixPath, guest_disk: GuestDisk) -> bytes:
    told = {
        "version": client_version(),
        "loader": str(loader),
        "libraries": str(LIBRARIES),
        "guest_disk": str(GUEST_DISK),
        "guest_disk_digest": guest_disk.digest,
    }
    return (json.dumps(told, indent=2) + "\n").encode()


def _binaries(members: list[Member]) -> Iterator[Path]:
    """List what is to be asked for its libraries. Those in a wheel's own folder are found by whoever loads them alone.

    Source: auditwheel's "repair", which makes `NAME.libs` and the RPATH of a wheel's modules.
    """
    for member in members:
        is_wheels_own = member.path.parent.suffix == ".libs"
        is_binary = member.path == INTERPRETER or (SHARED_OBJECT.search(member.path.name) and not is_wheels_own)
        if is_binary and isinstance(member.content, Path):
            yield member.content


def _standard_library() -> Iterator[Member]:
    pure, extensions = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_config_var("DESTSHARED") or "")
    for path in sorted(pure.iterdir()):
        if any(fnmatch.fnmatchcase(path.name, pattern) for pattern in _LEFT_OUT):
            continue
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            inner = file.relative_to(pure)
            if file.suffix == ".py" and not _TESTS & set(inner.parts):
                yield Member(STANDARD_LIBRARY / inner.as_posix(), file)
    for file in sorted(extensions.glob("*.so")):
        if not any(fnmatch.fnmatchcase(file.name, pattern) for pattern in _LEFT_OUT_EXTENSIONS):
            yield Member(STANDARD_LIBRARY / "lib-dynload" / file.name, file)


def _our_packages() -> Iterator[Member]:
    """List our own code where it is imported from: of an editable install no file is recorded."""
    for package in _OUR_PACKAGES:
        spec = importlib.util.find_spec(package.partition(".")[0])
        if spec is None or not spec.submodule_search_locations:
            raise CannotBundle(f"the package {package} is not installed beside the launcher")
        top = Path(spec.submodule_search_locations[0])
        for file in (top / "__init__.py", *sorted(top.parent.joinpath(*package.split(".")).rglob("*"))):
            inner = file.relative_to(top.parent)
            if _is_ours(file, inner):
                yield Member(SITE / inner.as_posix(), file)


def _is_ours(file: Path, inner: Path) -> bool:
    """Tell whether a file is code of ours: where it is worked on, people and tools leave other things beside it."""
    is_hidden = any(part.startswith(".") for part in inner.parts)
    if file.is_symlink() or not file.is_file() or is_hidden or _TESTS & set(inner.parts):
        return False
    if file.suffix not in _OUR_KINDS:
        raise CannotBundle(f"{file} is nothing that a bundle carries: remove it from the package and try again")
    return True


def _node_files() -> Iterator[Member]:
    """List what a site installs on a node: `launcher doctor` sends its reader there."""
    top = node_files()
    files = [file for file in sorted(top.rglob("*")) if file.is_file()]
    if not files:
        raise CannotBundle(f"{top} has nothing for a site's administrator: install vmbroker from its wheel or a clone")
    for file in files:
        yield Member(PurePosixPath(IN_BUNDLE) / file.relative_to(top).as_posix(), file)


def _condor() -> set[str]:
    if not any(importlib.metadata.distributions(name=CONDOR)):
        raise CannotBundle(
            "HTCondor's bindings are not installed beside this launcher: pip install 'vmbroker[launcher,condor]', or "
            "leave --condor out"
        )
    return distributions([CONDOR])


def _distribution(name: str) -> Iterator[Member]:
    for file in importlib.metadata.files(name) or []:
        if name == CONDOR and file.parts[0] not in _CONDOR_FOLDERS and not file.parts[0].endswith(".dist-info"):
            continue
        is_metadata = file.parts[0].endswith((".dist-info", ".egg-info"))
        is_wanted = file.name in _KEPT_METADATA if is_metadata else name != _OURS and not _TESTS & set(file.parts)
        if is_wanted and ".." not in file.parts and file.suffix not in _NOT_FOR_RUNNING | {".pth"}:
            yield Member(SITE / file.as_posix(), Path(str(file.locate())).resolve())


def _with_compiled(members: list[Member]) -> Iterator[Member]:
    """Add to each source what Python would write beside it: a bundle may lie where nobody can write."""
    for member in members:
        yield member
        # A package may bring a file that another version of Python is to import.
        with suppress(SyntaxError):
            if member.path.suffix == ".py":
                name = f"{member.path.stem}.{sys.implementation.cache_tag}.pyc"
                yield Member(member.path.parent / "__pycache__" / name, compiled(member.read(), member.path))

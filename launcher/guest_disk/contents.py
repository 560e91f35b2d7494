"""What goes onto the guest disk, and where: the running interpreter, what of its library a client needs, its packages.

Laid out as Python expects a home of its own: `bin/python3`, `lib/pythonX.Y`; packages in `site`, libraries in `lib`.
"""

import fnmatch
import importlib.metadata
import importlib.util
import re
import ssl
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from launcher.guest_disk.failure import CannotBuildGuestDisk

CLIENT_PACKAGES = ("guest", "broker.wire", "broker.client")
REQUIREMENTS = ("aiohttp", "msgspec")
INTERPRETER = PurePosixPath("bin/python3")
LIBRARIES = PurePosixPath("lib")
SITE = PurePosixPath("site")
AUTHORITIES = PurePosixPath("authorities.pem")
VERSION = SITE / "guest/VERSION"
STANDARD_LIBRARY = PurePosixPath(f"{sys.platlibdir}/python{sys.version_info.major}.{sys.version_info.minor}")

# Large, or bound to libraries that a client never needs; top-level names of the standard library.
_LEFT_OUT = (
    "__phello__*", "_aix*", "_osx*", "antigravity*", "bdb*", "cProfile*", "cgi*", "config-*", "curses", "dbm",
    "dist-packages", "distutils", "doctest*", "ensurepip", "idlelib", "imaplib*", "lib2to3", "mailbox*", "msilib",
    "multiprocessing", "nntplib*", "pdb*", "pip", "pstats*", "pydoc*", "site-packages", "smtp*", "sqlite3", "tarfile*",
    "test", "tkinter", "turtle*", "unittest", "venv", "wsgiref", "xml", "xmlrpc",
)  # fmt: skip
_LEFT_OUT_EXTENSIONS = (
    "_bz2.*", "_codecs_*", "_crypt.*", "_ctypes_test.*", "_curses*", "_dbm.*", "_elementtree.*", "_gdbm.*", "_lsprof.*",
    "_lzma.*", "_multiprocessing.*", "_posixshmem.*", "_sqlite3.*", "_test*", "_tkinter.*", "_xx*", "audioop.*",
    "nis.*", "ossaudiodev.*", "pyexpat.*", "readline.*", "spwd.*", "xx*",
)  # fmt: skip
USUAL_AUTHORITY_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
SHARED_OBJECT = re.compile(r"\.so(\.[0-9.]+)?$")
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)[^;]*(?:;(.*))?", re.DOTALL)


class Entry(NamedTuple):
    """One file of the disk: a `.py` source is compiled on its way, everything else copied."""

    target: PurePosixPath
    source: Path

    @property
    def is_python(self) -> bool:
        return self.source.suffix == ".py"

    @property
    def is_binary(self) -> bool:
        return self.target == INTERPRETER or bool(SHARED_OBJECT.search(self.source.name))


def client_version() -> str:
    """Return the version of the client on a disk made here."""
    return importlib.metadata.version("vmbroker")


def list_contents() -> list[Entry]:
    """List every file but the libraries that the binaries among them load, sorted by target.

    Raises:
        CannotBuildGuestDisk: a part is not installed here.
    """
    entries = [Entry(INTERPRETER, interpreter()), *_standard_library()]
    entries += [Entry(AUTHORITIES, file) for file in authority_files()[:1]]
    for name in sorted(distributions(REQUIREMENTS)):
        entries += _distribution_files(name)
    for package in CLIENT_PACKAGES:
        entries += _package_files(package)
    return sorted(set(entries))


def interpreter() -> Path:
    """Return the real interpreter's file, from inside of a virtual environment too."""
    # Documented since 3.11 only as what venv itself relies on; sys.executable is the fallback outside of one.
    return Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()


def _standard_library() -> Iterator[Entry]:
    pure, extensions = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_config_var("DESTSHARED") or "")
    for path in sorted(pure.iterdir()):
        if path.name == "__pycache__" or any(fnmatch.fnmatchcase(path.name, pattern) for pattern in _LEFT_OUT):
            continue
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            inner = file.relative_to(pure)
            if file.suffix == ".py" and not {"test", "tests", "idle_test"} & set(inner.parts):
                yield Entry(STANDARD_LIBRARY / inner.as_posix(), file)
    for file in sorted(extensions.glob("*.so")):
        if not any(fnmatch.fnmatchcase(file.name, pattern) for pattern in _LEFT_OUT_EXTENSIONS):
            yield Entry(STANDARD_LIBRARY / "lib-dynload" / file.name, file)


def distributions(wanted: Iterable[str], *, extra: str | None = None) -> set[str]:
    """Follow the requirements of the wanted, as they are installed here; those not installed are left out.

    Args:
        wanted: Names of distributions.
        extra: Of the wanted ones, whose requirements are followed, too; no other extra's are.

    Raises:
        CannotBuildGuestDisk: a wanted one is not installed.
    """
    wanted = list(wanted)
    found: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            if name in wanted:
                raise CannotBuildGuestDisk(f"the package {name} is not installed beside the launcher") from None
            continue
        found.add(name)
        waiting += _required(requirements, extra if name in wanted else None)
    return found


def _required(requirements: Iterable[str], extra: str | None) -> Iterator[str]:
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match is None:
            continue
        condition = (match[2] or "").replace("'", '"')
        if "extra" not in condition or (extra and f'extra == "{extra}"' in condition):
            yield match[1]


def _distribution_files(name: str) -> Iterator[Entry]:
    for file in importlib.metadata.files(name) or []:
        is_code = file.suffix == ".py" or bool(SHARED_OBJECT.search(file.name))
        if is_code and ".." not in file.parts and "tests" not in file.parts:
            yield Entry(SITE / file.as_posix(), Path(str(file.locate())).resolve())


def _package_files(package: str) -> Iterator[Entry]:
    """List the sources of one of our own packages, and the `__init__` of those above it, without importing them."""
    root = importlib.util.find_spec(package.partition(".")[0])
    if root is None or not root.submodule_search_locations:
        raise CannotBuildGuestDisk(f"the package {package} is not installed beside the launcher")
    top = Path(root.submodule_search_locations[0])
    folder = top.parent.joinpath(*package.split("."))
    for file in (top / "__init__.py", *sorted(folder.rglob("*.py"))):
        yield Entry(SITE / file.relative_to(top.parent).as_posix(), file)


def authority_files() -> list[Path]:
    """Return this machine's files of certificate authorities, the one that its OpenSSL uses first."""
    names = (ssl.get_default_verify_paths().cafile, *USUAL_AUTHORITY_FILES)
    return [Path(name) for name in names if name and Path(name).is_file()]

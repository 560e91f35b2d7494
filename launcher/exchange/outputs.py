"""The OUT folder: what a guest left for its launcher. Every byte and every name in it is the guest's.

Files are opened name by name from a folder of ours, no link is followed, only plain files are read, and everything has
a bound. What goes to the broker is what the guest's client would have sent: regular files that a pattern matches.
"""

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from broker.wire.dispatches import StagedItem
from broker.wire.exchange import LOG_FILE, MAX_RESULT_BYTES, OUTPUT_FOLDER, RESULT_FILE, ExchangeResult
from broker.wire.leases import MAX_LOG_BYTES, MAX_OUTPUTS
from broker.wire.states import FailureCode
from launcher.exchange.folder import ItemFault

MAX_NAME_BYTES: Final = 512
MAX_ENTRIES: Final = 20_000
MAX_DEPTH: Final = 32

_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
"""Control characters, backslash, and what Python puts for bytes that are no UTF-8."""
_MIB: Final = 1_048_576
_PLAIN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_MODE_IN_GUEST: Final = "user.virtfs.mode"
"""Where QEMU's 9p keeps what a guest says a file is: to the node, a link is then a plain file.

Source: https://wiki.qemu.org/Documentation/9psetup, "mapped-xattr".
"""
_NOTHING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""How an open ends where the guest left nothing of that name, or a link."""
_NO_ATTRIBUTE: Final = frozenset({errno.ENODATA, errno.ENOTSUP})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM})


@dataclass(frozen=True, slots=True)
class Output:
    """A file to upload: `name` is its path below the guest's output folder, `at` its path below `root`."""

    name: str
    size_bytes: int
    root: Path
    at: str

    def open(self) -> int:
        """Open it for reading.

        Raises:
            OSError: it is not there any more, or no plain file.
        """
        return open_beneath(self.root, self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """What was found; without a `result` the guest had not finished, and `outputs` is empty."""

    result: ExchangeResult | None
    log: bytes
    outputs: tuple[Output, ...] = ()


class Selection:
    """Which files are outputs, counted as they are found."""

    def __init__(self, staged: StagedItem) -> None:
        self._staged = staged
        self._count = 0
        self._total_bytes = 0

    def takes(self, name: str, size_bytes: int) -> bool:
        """Say whether a pattern matches; `*` matches `/` too.

        Raises:
            ItemFault: it does, and the file is one too many, too large, or has a name that no address should carry.
        """
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in self._staged.output_files):
            return False
        is_path = {"", ".", ".."}.isdisjoint(name.split("/"))
        if not is_path or _UNSAFE.search(name) or len(name.encode()) > MAX_NAME_BYTES:
            raise refused(
                f"the output file {name[:MAX_NAME_BYTES]!a} cannot be uploaded under its name: control characters, "
                f"backslashes, `..`, bytes that are no UTF-8 and more than {MAX_NAME_BYTES} bytes are refused"
            )
        self._count += 1
        self._total_bytes += size_bytes
        if self._count > MAX_OUTPUTS:
            raise refused(f"the guest wrote more than {MAX_OUTPUTS} output files, the most that are taken")
        if self._total_bytes > self._staged.output_mib * _MIB:
            raise refused(f"the output is larger than the stream's limit of {self._staged.output_mib} MiB")
        return True


def refused(sentence: str) -> ItemFault:
    return ItemFault(FailureCode.OUTPUT_REFUSED, sentence)


def harvest_folder(out: Path, staged: StagedItem) -> Harvest:
    """Look through an OUT folder that nobody writes to any more. Blocks.

    Raises:
        ItemFault: what the guest wrote is refused.
        OSError: the node cannot read it.
    """
    result, log = read_result(out), read_log(out)
    if result is None:
        return Harvest(result=None, log=log)
    selection = Selection(staged)
    outputs = [
        Output(name, size_bytes, out, f"{OUTPUT_FOLDER}/{name}")
        for name, size_bytes in _regular_files(out)
        if selection.takes(name, size_bytes)
    ]
    return Harvest(result=result, log=log, outputs=tuple(sorted(outputs, key=lambda output: output.name)))


def is_there(out: Path, name: str) -> bool:
    """Say whether the guest has made a file of this name in the folder itself; it may have put a link in its place."""
    try:
        os.close(open_beneath(out, name))
    except OSError:
        return False
    return True


def read_result(out: Path) -> ExchangeResult | None:
    """Return what `result.json` says, None where there is none.

    Raises:
        ItemFault: it is no such file, or says what no result says.
    """
    try:
        content = _read_end(out, RESULT_FILE, MAX_RESULT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refused(f"the guest's {RESULT_FILE} is no file that can be read: {error.strerror}") from error
    return parse_result(content)


def parse_result(content: bytes) -> ExchangeResult:
    """Read the bytes of `result.json`.

    Raises:
        ItemFault: they are none.
    """
    if len(content) > MAX_RESULT_BYTES:
        raise refused(f"the guest's {RESULT_FILE} has more than {MAX_RESULT_BYTES} bytes")
    try:
        return msgspec.json.decode(content, type=ExchangeResult)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refused(f"the guest's {RESULT_FILE} cannot be read: {error}") from error


def read_log(out: Path) -> bytes:
    """Return the end of the program's log, empty where it cannot be had: it decides nothing."""
    try:
        return _read_end(out, LOG_FILE, MAX_LOG_BYTES)
    except OSError:
        return b""


def open_beneath(root: Path, at: str) -> int:
    """Open a plain file by its path below a folder of ours, following no link on the way. Source: openat(2).

    Raises:
        OSError: there is no such file, or it is no plain one.
    """
    *parents, name = at.split("/")
    folder = os.open(root, _FOLDER)
    try:
        for parent in parents:
            deeper = os.open(parent, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = deeper
        descriptor = os.open(name, _PLAIN, dir_fd=folder)
    finally:
        os.close(folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(f"{name!r} is no plain file")


def _read_end(root: Path, at: str, limit_bytes: int) -> bytes:
    with os.fdopen(open_beneath(root, at), "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit_bytes))
        return file.read(limit_bytes)


def _regular_files(out: Path) -> Iterator[tuple[str, int]]:
    """Yield the plain files below `output`, by their path there, and their sizes."""
    waiting, seen = [""], 0
    while waiting:
        below = waiting.pop()
        for entry in _entries(out, f"{OUTPUT_FOLDER}/{below}".rstrip("/")):
            seen += 1
            name = f"{below}/{entry.name}" if below else entry.name
            if seen > MAX_ENTRIES or name.count("/") > MAX_DEPTH:
                raise refused(f"the output folder has more than {MAX_ENTRIES} files, or {MAX_DEPTH} levels of folders")
            if entry.is_folder:
                waiting.append(name)
            elif entry.is_plain:
                yield name, entry.size_bytes


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    is_folder: bool
    is_plain: bool
    size_bytes: int


def _entries(out: Path, at: str) -> list[_Entry]:
    """List a folder; one that is not there, or no folder, has nothing."""
    folder = os.open(out, _FOLDER)
    try:
        for name in at.split("/"):
            deeper = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = deeper
        with os.scandir(folder) as found:
            return [_entry(folder, entry, at) for entry, _ in zip(found, range(MAX_ENTRIES + 1), strict=False)]
    except OSError as error:
        _check_nothing(error, at)
        return []
    finally:
        os.close(folder)


def _entry(folder: int, entry: "os.DirEntry[str]", at: str) -> _Entry:
    status = entry.stat(follow_symlinks=False)
    is_plain = stat.S_ISREG(status.st_mode) and _is_plain_in_guest(folder, entry.name, at)
    return _Entry(entry.name, stat.S_ISDIR(status.st_mode), is_plain, status.st_size)


def _is_plain_in_guest(folder: int, name: str, at: str) -> bool:
    try:
        descriptor = os.open(name, _PLAIN, dir_fd=folder)
    except OSError as error:
        _check_nothing(error, f"{at}/{name}")
        return False
    try:
        mode = os.getxattr(descriptor, _MODE_IN_GUEST)
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTE:
            raise
        return True
    finally:
        os.close(descriptor)
    return stat.S_ISREG(int.from_bytes(mode, "little"))


def _check_nothing(error: OSError, at: str) -> None:
    """Return where the error says that there is nothing; a guest that locked its own output is told so.

    Raises:
        ItemFault: the guest's modes forbid to read it.
        OSError: as given, a fault of the node's.
    """
    if error.errno in _FORBIDDEN:
        shown = at[:MAX_NAME_BYTES]
        raise refused(f"the guest's {shown!a} cannot be read: leave outputs readable by their owner") from error
    if error.errno not in _NOTHING:
        raise error

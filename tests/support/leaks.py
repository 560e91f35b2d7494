"""Looking for secrets where a node, a store or another user could read them. A search that finds nothing may be blind:
plant something first, and see it found.

A secret is looked for in pieces, because it may lie there as text or as the bytes that the text stands for, and cut up
by a compression. A piece has 11 characters, 66 random bits, so that none is found by chance.
"""

import base64
import binascii
import mmap
import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import redis

from tests.support.grid import Broker
from tests.support.ordinary_account import words

_PIECE = 11
_LIMIT_S = 60


class Found(NamedTuple):
    """That a secret was seen: its name, the kind of place, and which one."""

    secret: str
    kind: str
    place: str


@dataclass(frozen=True)
class Secret:
    """What must not be seen; `text` is its secret part alone."""

    name: str
    text: str

    def pieces(self) -> list[bytes]:
        padded = self.text + "=" * (-len(self.text) % 4)
        try:
            meant = base64.b64decode(padded, altchars=b"-_" if {"-", "_"} & set(self.text) else None, validate=True)
        except (binascii.Error, ValueError):
            meant = b""
        return [*_cut(self.text.encode()), *_cut(meant)]


def _cut(content: bytes) -> list[bytes]:
    """Cut it so that of 21 of its bytes in a row, which is what a compression leaves alone, some are a piece."""
    assert not content or len(content) >= 2 * _PIECE, "too short to be a secret"
    return [content[at : at + _PIECE] for at in range(0, len(content) - _PIECE + 1, _PIECE)]


class Search:
    """One search for several secrets; `found` is what it came to."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self.found: list[Found] = []
        self.looked_at: dict[str, int] = {}
        self._pieces = [(secret.name, piece) for secret in secrets for piece in secret.pieces()]

    def look(self, kind: str, place: str, content: bytes | mmap.mmap) -> None:
        self.looked_at[kind] = self.looked_at.get(kind, 0) + 1
        names = dict.fromkeys(name for name, piece in self._pieces if content.find(piece) >= 0)
        self.found += [Found(name, kind, place) for name in names]

    def processes(self) -> None:
        """Look at the command line and the environment of every process that this account may see."""
        for process in Path("/proc").glob("[0-9]*"):
            for file, kind in (("cmdline", "command line"), ("environ", "environment")):
                content = _read(process / file)
                if content is not None:
                    self.look(kind, f"{_read(process / 'comm')!r} {process.name}", content)

    def files(self, kind: str, *roots: Path) -> None:
        """Look at every plain file below the roots, which may be files themselves."""
        for root in roots:
            for path in _files_below(root):
                self._file(kind, path)

    def _file(self, kind: str, path: Path) -> None:
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    self.look(kind, str(path), file.read())
                    return
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    self.look(kind, str(path), content)
        except (FileNotFoundError, ValueError):
            # Gone, or cut short, since it was listed.
            return
        except PermissionError:
            if os.geteuid() == 0:
                raise

    def disk(self, image: Path, scratch: Path) -> None:
        """Look at a disk as its guest sees it, backing files and compressed parts included, while it is in use."""
        raw = scratch / f"{image.name}.seen"
        command = ["qemu-img", "convert", "--force-share", "-O", "raw", str(image), str(raw)]
        subprocess.run(command, check=True, capture_output=True, timeout=_LIMIT_S)
        try:
            self._file("disk of the guest", raw)
        finally:
            raw.unlink()

    def said(self, kind: str, *command: str) -> int:
        """Look at what a command says, whatever its exit status, which is returned."""
        ended = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)
        self.look(kind, " ".join(command), ended.stdout + ended.stderr)
        return ended.returncode

    def store(self, url: str) -> None:
        """Look at every key of the store, and all that is below it."""
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(count=1000):
                self.look("store", repr(key), b"\n".join(_flat(_value(client, key))))


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def _files_below(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path
            except FileNotFoundError:
                continue


def _value(client: Any, key: bytes) -> Any:
    match client.type(key):
        case b"string":
            return client.get(key)
        case b"hash":
            return client.hgetall(key)
        case b"list":
            return client.lrange(key, 0, -1)
        case b"set":
            return client.smembers(key)
        case b"zset":
            return client.zrange(key, 0, -1)
        case b"stream":
            return client.xrange(key)
        case b"none":
            return None
        case other:
            raise AssertionError(f"{key!r} is of the kind {other!r}, which is not looked at")


def _flat(value: Any) -> Iterator[bytes]:
    match value:
        case bytes():
            yield value
        case dict():
            for name, of in value.items():
                yield from _flat(name)
                yield from _flat(of)
        case list() | tuple() | set():
            for one in value:
                yield from _flat(one)


SYSTEM_PLACES = (
    *("/var/log", "/run/log", "/var/crash", "/var/lib/systemd/coredump"),
    *("/var/lib/libvirt", "/var/cache/libvirt", "/run/libvirt"),
)


@dataclass(frozen=True)
class Node:
    """Where a broker, its launcher and one vm of it keep things; `folder` holds all of them."""

    broker: Broker
    folder: Path
    dispatch: str

    @property
    def run_folder(self) -> Path:
        (folder,) = self.folder.glob(f"n/*/{self.dispatch[:8]}")
        return folder

    @property
    def uri(self) -> str:
        (folder,) = self.folder.glob("n/*/d")
        (socket,) = [path for path in folder.rglob("libvirt-sock") if path.is_socket()]
        return f"qemu+unix:///session?socket={quote(str(socket))}"

    @property
    def store(self) -> str:
        return f"unix://{self.broker.data / 'store' / 'store.sock'}"

    def search(self, secrets: Iterable[Secret], *, with_vm: bool) -> "Search":
        """Look everywhere, and with a vm at its disk as its guest sees it and at its domain as libvirt shows it."""
        search = Search(secrets)
        search.processes()
        # RQ's server, too.
        for socket in self.broker.data.rglob("store.sock"):
            search.store(f"unix://{socket}")
        search.files("file", self.folder)
        search.files("file of the system", *map(Path, SYSTEM_PLACES), *Path("/tmp").glob("*core*"))
        if with_vm:
            for overlay in self.run_folder.glob("*.qcow2"):
                search.disk(overlay, self.folder)
            self._libvirt(search)
        return search

    def _libvirt(self, search: Search) -> None:
        name = f"vmb-{self.dispatch[:8]}"
        for options in ((), ("-r",)):
            shown = search.said("domain XML", "virsh", *options, "-c", self.uri, "dumpxml", "--security-info", name)
            assert shown == 0 or options, "libvirt does not show its own launcher the vm"
        other = search.said("domain XML", *words({}), "virsh", "-r", "-c", self.uri, "dumpxml", name)
        assert other != 0 or os.geteuid() != 0, "another account may ask the launcher's libvirt"


@contextmanager
def in_a_process(canary: Secret) -> Iterator[None]:
    """Have it in the command line and the environment of a process for the block."""
    told = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", canary.text]
    pipe = subprocess.PIPE
    with subprocess.Popen(told, stdin=pipe, stdout=pipe, env={"CANARY": canary.text}) as process:
        assert process.stdout is not None
        # Until it runs, the kernel may show neither: what started it goes on a moment before both are there.
        process.stdout.readline()
        yield
        process.terminate()

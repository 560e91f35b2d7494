"""A large file into the broker and out of it, against nginx in turns, and what the broker's memory does meanwhile."""

import hashlib
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from bench.broker.drive import Address
from bench.broker.ground import served
from bench.data import client
from bench.data.extent import Extent
from bench.data.nginx import nginx
from bench.failing import BenchFailed
from bench.figures import Figure, median_of, ratio_of
from bench.memory import peak_of, resident_mib

_BLOCK_BYTES = 1 << 20
_FREE_FILES = 6
"""Room for so many of the files: the source, one at each server and one that comes, and what must stay free."""
_GROWTH_MIB = 32
_READING_BYTES = 1 << 22


class Server(NamedTuple):
    """Where files go; `folder` is there when the files can be looked at by their names."""

    address: Address
    files: str
    token: str = ""
    folder: Path | None = None

    def put(self, source: Path, name: str) -> float:
        return client.put(self.address, f"{self.files}/{name}", source, self.token)

    def get(self, name: str, size_bytes: int) -> float:
        return client.get(self.address, f"{self.files}/{name}", size_bytes, self.token)

    def delete(self, name: str) -> None:
        client.delete(self.address, f"{self.files}/{name}", self.token)

    def check(self, name: str, size_bytes: int, digest: str) -> None:
        if client.digest_of(self.address, f"{self.files}/{name}", size_bytes, self.token) != digest:
            raise BenchFailed(f"what came back from {self.files}/{name} is not what was sent")


class Measured:
    """MiB a second of each turn, and by how many MiB the broker grew; `kept`: nginx with what it leaves undone."""

    def __init__(self) -> None:
        self.ours: list[float] = []
        self.nginx: list[float] = []
        self.kept: list[float] = []
        self.grown: list[float] = []


def measure(folder: Path, extent: Extent) -> list[Figure]:
    """Measure in turns; no turn leaves a file behind that the disk would still be busy with in the next."""
    if shutil.disk_usage(folder).free < _FREE_FILES * extent.file_bytes:
        raise BenchFailed(f"less than {_FREE_FILES * extent.file_bytes} bytes are free below {folder}")
    source = folder / "source"
    digest = _write(source, extent.file_bytes)
    with served(folder / "b") as here, nginx(folder / "n") as address:
        idle_mib = resident_mib(here.pid)
        ours = Server(here.address, "/v1/files/alice", here.broker.token())
        plain = Server(address, "", folder=folder / "n" / "files")
        # One that does not count, for warm caches, and one that stays to be fetched.
        for server in (ours, plain):
            server.put(source, "there")
            server.check("there", extent.file_bytes, digest)
        into, first = _put(ours, plain, source, here.pid, idle_mib, extent)
        out = _get(ours, plain, here.pid, idle_mib, extent)
    return [*_figures_in(into, extent), *_figures_out(out, first, extent)]


def _write(path: Path, size_bytes: int) -> str:
    """Write a file in which no block is like another; return its digest."""
    hasher, rest = hashlib.sha256(), secrets.token_bytes(_BLOCK_BYTES - 8)
    with path.open("wb") as file:
        for number in range(size_bytes // _BLOCK_BYTES):
            block = number.to_bytes(8, "big") + rest
            hasher.update(block)
            file.write(block)
        # What is still to be written would disturb what is measured.
        file.flush()
        os.fsync(file.fileno())
    return hasher.hexdigest()


def _put(
    ours: Server, plain: Server, source: Path, pid: int, idle_mib: float, extent: Extent
) -> tuple[Measured, Measured]:
    """Return what PUTs took, and the first GETs of what was put."""
    measured, first, mib = Measured(), Measured(), extent.file_bytes / _BLOCK_BYTES
    for number in range(extent.rounds):
        name = f"in{number}"
        with peak_of(pid) as peak:
            measured.ours.append(mib / ours.put(source, name))
        measured.grown.append(peak.mib - idle_mib)
        first.ours.append(mib / ours.get(name, extent.file_bytes))
        ours.delete(name)
        took_s = plain.put(source, name)
        measured.nginx.append(mib / took_s)
        assert plain.folder is not None, "nginx serves a folder"
        measured.kept.append(mib / (took_s + _keep(plain.folder / name)))
        first.nginx.append(mib / plain.get(name, extent.file_bytes))
        plain.delete(name)
    return measured, first


def _keep(path: Path) -> float:
    """Do what the broker does and nginx does not: read the file for its digest, make it and its name durable."""
    begun_s = time.perf_counter()
    hasher, buffer = hashlib.sha256(), bytearray(_READING_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        while size_bytes := file.readinto(buffer):
            hasher.update(view[:size_bytes])
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)
    return time.perf_counter() - begun_s


def _get(ours: Server, plain: Server, pid: int, idle_mib: float, extent: Extent) -> Measured:
    measured, mib = Measured(), extent.file_bytes / _BLOCK_BYTES
    for _ in range(extent.rounds):
        with peak_of(pid) as peak:
            measured.ours.append(mib / ours.get("there", extent.file_bytes))
        measured.grown.append(peak.mib - idle_mib)
        measured.nginx.append(mib / plain.get("there", extent.file_bytes))
    return measured


def _figures_in(into: Measured, extent: Extent) -> list[Figure]:
    size = f"{extent.file_bytes >> 20} MiB over loopback"
    plain, kept = "nginx, dav: neither hashed nor durable", "nginx, then fsync and SHA-256 of what it wrote"
    return [
        median_of("PUT", "MiB/s", into.ours, reference=f"{size}; hashed and durable when it is answered"),
        median_of("  nginx", "MiB/s", into.nginx, reference=f"{size}; {plain}"),
        median_of("  nginx, then fsync and SHA-256", "MiB/s", into.kept, reference=f"{size}; {kept}"),
        ratio_of("PUT / nginx", into.ours, into.nginx, reference=plain, at_least=0.5, aim=1),
        ratio_of("PUT / nginx, then fsync and SHA-256", into.ours, into.kept, reference=kept),
        _memory("PUT", into, size),
    ]


def _figures_out(out: Measured, first: Measured, extent: Extent) -> list[Figure]:
    size = f"{extent.file_bytes >> 20} MiB over loopback, out of the page cache"
    new = f"{extent.file_bytes >> 20} MiB over loopback, just after the PUT"
    return [
        median_of("GET", "MiB/s", out.ours, reference=size),
        median_of("  nginx", "MiB/s", out.nginx, reference=f"{size}; sendfile on"),
        ratio_of("GET / nginx", out.ours, out.nginx, reference="nginx, sendfile on", at_least=0.5, aim=1),
        median_of("first GET of what was put", "MiB/s", first.ours, reference=f"{new}, from the disk"),
        median_of("  nginx", "MiB/s", first.nginx, reference=f"{new}, out of the page cache"),
        _memory("GET", out, size),
    ]


def _memory(what: str, measured: Measured, size: str) -> Figure:
    return median_of(
        f"broker's memory grows in a {what} by",
        "MiB",
        measured.grown,
        reference=f"peak of what is resident, against before the first file; {size}",
        at_most=_GROWTH_MIB,
    )

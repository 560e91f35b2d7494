"""Real stores for tests: the embedded Valkey and Debian's Redis, each one durable server on a Unix socket."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from broker.store import Store
from broker.store.embedded import binary, command
from broker.store.keys import Keys
from tests.support.waiting import wait_until

PREFIX = "vmb"


class StoreServer(NamedTuple):
    """A running server: `kind` is `valkey` or `redis`."""

    kind: str
    url: str


class StoreProcess:
    """A server over a folder with a short path, which may be stopped, killed and started again with other settings."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.folder / 'store.sock'}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *settings: str) -> None:
        """Start it with settings beyond those of a durable server; it may still be reading its data afterwards."""
        (self.folder / "store.sock").unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [*command(_program(self.kind), self.folder), *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A write past the limit of a file's size then fails, as on a full disk, and ends nothing: SIGXFSZ stays
            # ignored, as Python has it. Source: setrlimit(2).
            restore_signals=False,
        )

    def wait(self) -> None:
        """Return when it answers."""
        wait_until(lambda: _answers(self.folder / "store.sock"), "the store's server answers", timeout_s=20)

    def stop(self) -> None:
        """Stop it in good order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)


@contextmanager
def store_process(kind: str) -> Iterator[StoreProcess]:
    """A running server over a fresh folder; it is stopped and its folder removed at the end."""
    with short_folder(kind) as folder:
        process = StoreProcess(kind, folder)
        process.start()
        try:
            process.wait()
            yield process
        finally:
            process.stop()


@contextmanager
def running_server(kind: str) -> Iterator[StoreServer]:
    """Run a server over a fresh folder with a short path; it is stopped and its folder removed at the end."""
    with short_folder(kind) as folder, served(kind, folder) as server:
        yield server


@contextmanager
def short_folder(kind: str) -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"vmb-{kind}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def served(kind: str, folder: Path) -> Iterator[StoreServer]:
    """Run a server over what is in a folder; it is stopped at the end."""
    process = StoreProcess(kind, folder)
    process.start()
    try:
        process.wait()
        yield StoreServer(kind, process.url)
    finally:
        process.stop()


@pytest.fixture(scope="session", params=["valkey", "redis"])
def store_server(request: pytest.FixtureRequest) -> Iterator[StoreServer]:
    """Each server in turn; a test that asks for it runs on both."""
    with running_server(request.param) as server:
        yield server


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[StoreServer]:
    """One Valkey for tests of parts above the store, which need a store and not both."""
    with running_server("valkey") as server:
        yield server


@pytest.fixture
async def store(store_server: StoreServer) -> AsyncIterator[Store]:
    """An empty store on each server; afterwards every key in it must be one that `keys.py` lists."""
    async with connected(store_server.url) as store:
        yield store


class connected:  # noqa: N801 # reads as what it gives
    """An empty store at `url` for the context's time, checked for unexpected keys at its end."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._store: Store | None = None

    async def __aenter__(self) -> Store:
        self._store = await Store.connect(self._url, prefix=PREFIX)
        await self._store._server.command("FLUSHALL")
        return self._store

    async def __aexit__(self, *error: object) -> None:
        assert self._store is not None
        try:
            assert await unexpected_keys(self._store) == []
        finally:
            await self._store.close()


async def unexpected_keys(store: Store) -> list[str]:
    """Return, each with what is wrong, the keys of another name, type or life than `keys.py` lists."""
    keys, wrong = Keys(PREFIX), []
    for key in await store._server.command("KEYS", "*"):
        kind = keys.kind_of(key)
        type_, ttl_ms = await store._server.commands([("TYPE", key), ("PTTL", key)])
        if kind is None:
            wrong.append(f"{key}: not listed")
        elif kind.type != type_:
            wrong.append(f"{key}: a {type_}, listed as {kind.type}")
        elif kind.life == "lasting" and ttl_ms >= 0:
            wrong.append(f"{key}: lives {ttl_ms} ms, listed as lasting")
        elif kind.type == "string" and ttl_ms < 0:
            wrong.append(f"{key}: lives for ever, listed as {kind.life}")
    return wrong


async def age(store: Store, ms: int) -> None:
    """Let `ms` pass: everything the store dates is moved into the past, but the clock's last tick."""
    server, batch = store._server, []
    for key in await server.command("KEYS", "*"):
        match Keys(PREFIX).kind_of(key):
            case None:
                continue
            case kind if kind.type == "hash":
                record = await server.command("HGETALL", key)
                dated = [name for name in record if name.endswith("_ms") and name not in {"ticked_ms", "boot_ms"}]
                batch += [("HINCRBY", key, name, -ms) for name in dated if name != "mean_ms"]
            case kind if kind.type == "zset" and not kind.name.startswith(("ring", "ready")):
                batch += [("ZINCRBY", key, -ms, member) for member in await server.command("ZRANGE", key, 0, -1)]
    await server.commands(batch)


def _program(kind: str) -> Path:
    if kind == "valkey":
        return binary()
    found = shutil.which("redis-server")
    assert found is not None, "install Debian's redis-server: the store is tested on it too"
    return Path(found)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        connection.sendall(b"PING\r\n")
        return connection.recv(7) == b"+PONG\r\n"

"""Where everything is measured: a broker with its embedded store, and what it is measured against.

Every server runs on loopback, in a folder of the run's own, and ends with it, by Ctrl-C or SIGTERM too. What
acknowledges writes does so after an fsync.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from redis import Redis

from bench.broker.calls import MOST, Calls, check, lease_of, tickets_of, url_of, urls_of
from bench.broker.drive import Address, Answer, Talk, drive
from bench.broker.floor import READY, RECORDED
from bench.broker.talks import filler
from bench.failing import BenchFailed
from broker.auth.keys import load_keys
from broker.auth.tokens import Tokens
from broker.domain.scopes import scopes_of_launcher
from broker.store.embedded import binary, command, environment
from tests.support.api import IMAGE, XML, digest_of
from tests.support.grid import REPOSITORY, Broker, Home, free_port
from tests.support.waiting import wait_until

_DIE_WITH_PARENT = REPOSITORY / "broker" / "store" / "die_with_parent.py"
_PEERS_PYTHON = REPOSITORY / ".venv-peers" / "bin" / "python"
_TOKEN_LIFE = timedelta(hours=2)
PREFIX = "vmb"
"""What every key in a broker's store begins with."""
_START_S = 30
_STOP_S = 30
_FILL_LIMIT_S = 600
_REWRITE_S = 300
_FILLERS = 4
_PEER_LIMIT_S = 300


@dataclass(frozen=True)
class Served:
    """A running broker with one stream, whose first vm has claimed, so that nothing waits for a canary."""

    broker: Broker
    pid: int
    store: Redis
    tokens: Tokens

    @property
    def address(self) -> Address:
        return ("127.0.0.1", self.broker.port)

    def calls(self, site: int = 0) -> Calls:
        """Return the calls of a researcher and a site: a broker bounds how many launchers one token speaks for."""
        token = self.tokens.issue(f"site{site}", scopes_of_launcher(), _TOKEN_LIFE)
        return Calls(self.broker.token(), token)

    def fill(self, count: int) -> None:
        """Push so many items over a few connections."""
        chunks, calls = urls_of(count), self.calls()
        drive(self.address, [filler(calls, chunks) for _ in range(_FILLERS)], limit_s=_FILL_LIMIT_S)

    def rest(self) -> None:
        """Have the store write its append-only file anew, as it does by itself once that is large and has doubled.

        What is measured next is then not beside that.
        """
        wait_until(self._is_at_rest, "the append-only file is not being written anew", timeout_s=_REWRITE_S)
        self.store.bgrewriteaof()
        wait_until(self._is_at_rest, "the append-only file was written anew", timeout_s=_REWRITE_S)

    def _is_at_rest(self) -> bool:
        now = self.store.info("persistence")
        return not now["aof_rewrite_in_progress"] and not now["aof_rewrite_scheduled"]


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[Served]:
    """Run a broker for the block, with these variables in its environment; its folder goes with it."""
    folder.mkdir()
    broker = Broker(Home(folder, settings), free_port())
    with broker.serving() as process:
        store = Redis(unix_socket_path=str(broker.data / "store" / "store.sock"), decode_responses=True)
        with contextlib.closing(store):
            _add_stream(broker)
            here = Served(broker, process.pid, store, Tokens(load_keys(broker.data / "keys")))
            record(here, folder)
            yield here
    shutil.rmtree(folder)


def _add_stream(broker: Broker) -> None:
    disk = {"digest": digest_of(IMAGE), "size_bytes": len(IMAGE), "format": "raw"}
    put(broker, f"/v1/images/{digest_of(IMAGE)}", IMAGE)
    put(broker, "/v1/machines/alice/m", json.dumps({"domain_xml": XML, "disks": {"vda": disk}}).encode())
    put(broker, "/v1/streams/alice/work", json.dumps({"machine": "m", "run": "/bin/true"}).encode())


def put(broker: Broker, path: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {broker.token()}", "Content-Type": "application/json"}
    request = urllib.request.Request(broker.url + path, body, headers, method="PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()


def record(here: Served, folder: Path) -> None:
    """Bring the first items to their end, and keep what was answered: a floor's answers are as large."""
    answers: dict[str, Answer] = {}

    def first(calls: Calls, name: str, *, size: int) -> Talk:
        answers["push"] = yield calls.push([url_of(number) for number in range(size)])
        check(answers["push"])
        answers[name] = yield calls.dispatch("first", most=size)
        for ticket in tickets_of(answers[name]):
            answers["claim"] = yield calls.claim(ticket)
            answers["complete"] = yield calls.complete(lease_of(answers["claim"]))
            check(answers["complete"])

    # Of a new stream only a few items are given out at once until a vm has claimed.
    for name, size in (("dispatch_one", 1), ("dispatch", MOST)):
        drive(here.address, [first(here.calls(), name, size=size)], limit_s=_START_S)
    for name in RECORDED:
        (folder / name).write_bytes(answers[name].body)


@contextmanager
def floor(kind: str, folder: Path) -> Iterator[Address]:
    """Run a server that does nothing, with the answers that are recorded in the folder."""
    ready = folder / READY
    ready.unlink(missing_ok=True)
    with child([sys.executable, "-m", "bench.broker.floor", kind, str(folder)], folder / f"{kind}.log") as process:
        wait_for(ready.exists, process, folder / f"{kind}.log")
        yield ("127.0.0.1", int(ready.read_text()))


@contextmanager
def valkey(folder: Path) -> Iterator[Path]:
    """Run the same store as the broker's embedded one for a peer; yield its socket."""
    folder.mkdir()
    socket, log = folder / "store.sock", folder / "output.log"
    with child(command(binary(), folder), log, {**os.environ, **environment()}) as process:
        wait_for(lambda: socket.exists() and _answers(socket), process, log)
        yield socket
    shutil.rmtree(folder)


def _answers(socket: Path) -> bool:
    with contextlib.closing(Redis(unix_socket_path=str(socket))) as store, contextlib.suppress(OSError):
        return bool(store.ping())
    return False


@contextmanager
def beanstalkd(folder: Path) -> Iterator[Address]:
    """Run a beanstalkd that answers after an fsync."""
    program = shutil.which("beanstalkd", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin")
    if program is None:
        raise BenchFailed("there is no beanstalkd: run `deploy/setup/system-packages bench`")
    folder.mkdir()
    port, log = free_port(), folder / "output.log"
    words = [program, "-l", "127.0.0.1", "-p", str(port), "-b", str(folder), "-f", "0"]
    with child(words, log) as process:
        wait_for(lambda: listens(port), process, log)
        yield ("127.0.0.1", port)
    shutil.rmtree(folder)


def listens(port: int) -> bool:
    # Source: proc(5), /proc/net/tcp: local address in hexadecimal, state 0A is LISTEN.
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)


def peer(script: str, *arguments: str) -> float:
    """Run a peer's own client or worker, in the peers' environment; return how many seconds it says that it took."""
    path = REPOSITORY / "bench" / "broker" / "peers" / f"{script}.py"
    if not _PEERS_PYTHON.exists():
        raise BenchFailed("there is no environment for the peers: run `make bench`")
    ended = subprocess.run(
        [str(_PEERS_PYTHON), str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=_PEER_LIMIT_S,
        check=False,
        cwd=path.parent,
    )
    if ended.returncode != 0:
        raise BenchFailed(f"{script} ended with {ended.returncode}: {ended.stderr[-2_000:]}")
    return float(ended.stdout.split()[-1])


@contextmanager
def child(
    words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    wrapper = [sys.executable, "-I", "-S", str(_DIE_WITH_PARENT), str(os.getpid())]
    program = shutil.which(words[0]) or words[0]
    with log.open("ab") as file:
        process = subprocess.Popen(
            [*wrapper, program, *words[1:]],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    wait_until(lambda: condition() or process.poll() is not None, f"{process.args!r} answers", timeout_s=_START_S)
    if process.poll() is not None:
        raise BenchFailed(f"a server did not start: {log.read_text()[-2_000:]}")

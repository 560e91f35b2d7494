"""A whole grid on one machine: a broker, launchers and a researcher, as the processes that people start.

Every process gets a home of its own, so nothing of the machine's real logins is read or written, and every folder has a
short path, because Unix sockets are in it.
"""

import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.certificates import Credential
from tests.support.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
_BIN = Path(sys.executable).parent
_START_S = 60
_STOP_S = 60


@dataclass
class Home:
    """A person's home: where logins, data and caches are looked for."""

    folder: Path
    extra: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("VMBROKER_", "BEARER_", "XDG_"))
        }
        return {
            **kept,
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "COLUMNS": "120",
            "NO_COLOR": "1",
            **self.extra,
        }

    def program(self, name: str) -> Path:
        return _BIN / name

    def run(self, *command: str, stdin: str | None = None, timeout_s: float = 120) -> "Said":
        """Run a `broker` or `launcher` command to its end, whatever its exit status."""
        ended = subprocess.run(
            [str(_BIN / command[0]), *command[1:]],
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Said(ended.returncode, ended.stdout, ended.stderr)

    def ok(self, *command: str, stdin: str | None = None, timeout_s: float = 120) -> str:
        """Run a command that must succeed and return what it printed."""
        said = self.run(*command, stdin=stdin, timeout_s=timeout_s)
        assert said.status == 0, f"{' '.join(command)} ended with {said.status}:\n{said.out}{said.err}"
        return said.out

    @contextmanager
    def running(self, log: Path, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a command in the background; SIGTERM at the end, and it must end well, unless a test killed it."""
        with running([str(_BIN / command[0]), *command[1:]], log, self.environment()) as process:
            yield process


@contextmanager
def running(
    words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command for the block; SIGTERM at its end, and it must end well, unless a test killed it."""
    with log.open("ab") as file:
        process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert process.returncode in {0, -signal.SIGKILL}, log.read_text()


@dataclass(frozen=True)
class Said:
    """What a command ended with and printed."""

    status: int
    out: str
    err: str


@dataclass
class Broker:
    """A broker with its embedded store over one data folder; it may be stopped and started again."""

    home: Home
    port: int
    settings: tuple[str, ...] = ()
    authority: Path | None = None
    """PEM of who issued the broker's certificate, where its settings name one."""

    @property
    def url(self) -> str:
        return f"{'http' if self.authority is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.home.folder / "broker.log"

    @property
    def data(self) -> Path:
        return self.home.folder / "data" / "vmbroker"

    @contextmanager
    def serving(self) -> Iterator["subprocess.Popen[bytes]"]:
        ready = self.home.folder / "ready"
        ready.unlink(missing_ok=True)
        command = (
            "broker",
            "serve",
            "--listen",
            f"127.0.0.1:{self.port}",
            "--user",
            "alice",
            "--ready-file",
            str(ready),
        )
        with self.home.running(self.log, *command, *self.settings) as process:
            wait_until(lambda: ready.exists() or process.poll() is not None, "the broker is ready", timeout_s=_START_S)
            assert process.poll() is None, self.log.read_text()
            yield process

    def token(self, whose: str = "login") -> str:
        """Return the first user's token, or the first launcher's (`whose="launcher"`)."""
        file = self.home.folder / "config" / "vmbroker" / f"{whose}.json"
        return str(json.loads(file.read_text())["token"])

    def call(self, method: str, path: str, body: object = None, token: str | None = None) -> Any:
        """Call the HTTP API by the standard library alone; an error status raises `urllib.error.HTTPError`."""
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        context = None if self.authority is None else ssl.create_default_context(cafile=self.authority)
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return json.load(answer)

    def items(self, stream: str) -> list[dict[str, Any]]:
        """Return the items of alice's stream as the broker tells them."""
        page = self.call("GET", f"/v1/streams/alice/{stream}/items", token=self.token())
        return list(page["items"])

    def store_pid(self, folder: str = "store") -> int:
        """Return the process id of the embedded store's server, or of RQ's (`rq`), among the broker's children."""
        broker_pid = json.loads((self.home.folder / "ready").read_text())["pid"]
        children = [
            int(stat.parent.name)
            for stat in Path("/proc").glob("[0-9]*/stat")
            if _parent(stat) == broker_pid and "valkey" in _name(stat) and _folder(stat) == folder
        ]
        assert len(children) == 1, children
        return children[0]


def with_tls(home: Home, authority: Credential, server: Credential) -> Broker:
    """Return a broker that has a certificate; the home's commands and launchers know who issued it."""
    files = {name: home.folder / f"{name}.pem" for name in ("authority", "cert", "key")}
    contents = {"authority": authority.pem, "cert": server.pem, "key": server.key_pem}
    for name, content in contents.items():
        files[name].write_bytes(content)
        files[name].chmod(0o600 if name == "key" else 0o644)
    home.extra["SSL_CERT_FILE"] = str(files["authority"])
    settings = ("--tls-cert", str(files["cert"]), "--tls-key", str(files["key"]))
    return Broker(home, free_port(), settings, files["authority"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> range:
    """Return so many ports in a row that nobody listens at, below those that the kernel gives out."""
    places = list(range(20_000, 32_000, count))
    random.shuffle(places)  # others look for some at the same time
    for first in places:
        ports = range(first, first + count)
        if not any(_is_taken(port) for port in ports):
            return ports
    raise AssertionError(f"no {count} free ports in a row")


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def processes_naming(text: str) -> list[str]:
    """Return the command lines of running processes that name `text`."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if text in line:
            found.append(line)
    return found


def built_image(name: str) -> Path:
    """Return the path of a guest image, building it when it is not there."""
    command = [str(REPOSITORY / "deploy" / "image" / "build"), name, "--print-path"]
    built = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip()) / "disk.qcow2"


def _parent(stat: Path) -> int:
    fields = _fields(stat)
    return int(fields[1]) if fields else -1


def _fields(stat: Path) -> list[str]:
    try:
        return stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _folder(stat: Path) -> str:
    """Return the last part of a process's working folder."""
    try:
        return (stat.parent / "cwd").readlink().name
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _name(stat: Path) -> str:
    try:
        return stat.read_text().partition("(")[2].rpartition(")")[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""

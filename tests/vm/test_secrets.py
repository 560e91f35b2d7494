"""An RFC 3820 proxy of alice's inside a real vm: a real TLS server takes it, and nobody else ever sees its key.

The server demands a client's certificate and has OpenSSL verify the chain from the proxy to the authority; it notes
whom it let in. While it holds the program's last request, node, broker and processes are searched for the key.
"""

import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from broker.auth.keys import load_keys
from broker.auth.tokens import Tokens
from broker.domain.scopes import scopes_of_launcher
from tests.support import certificates
from tests.support.certificates import Credential
from tests.support.grid import REPOSITORY, Home, with_tls
from tests.support.guestfs import guestfs_environment
from tests.support.launching import launched, short_folder
from tests.support.waiting import wait_until
from tests.vm.conftest import Grid

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

PROGRAM = REPOSITORY / "tests" / "vm" / "programs" / "delegated.py"
LICENCE = b"licence-0123-4567-89ab-cdef of alice's"
NOBODY = 65_534
HOLD_S = 400.0


@dataclass
class Demanding:
    """A server of the grid's that lets in only who shows a certificate of the authority, or a proxy of one."""

    port: int = 0
    let_in: list[str] = field(default_factory=list)
    """The subjects of those that were, the proxy's own CN last."""
    refused: list[str] = field(default_factory=list)
    holds: threading.Event = field(default_factory=threading.Event)
    goes_on: threading.Event = field(default_factory=threading.Event)


@contextmanager
def demanding(authority: Credential, folder: Path) -> Iterator[Demanding]:
    """Serve for the time of the block."""
    noted, own = Demanding(), certificates.server(authority)
    file = folder / "demanding.pem"
    file.write_bytes(own.pem + own.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.load_verify_locations(cadata=authority.pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_ALLOW_PROXY_CERTS

    class Answers(BaseHTTPRequestHandler):
        def setup(self) -> None:
            self.request.do_handshake()
            super().setup()

        def do_GET(self) -> None:
            subject = _shown(self.request.getpeercert())
            noted.let_in.append(subject)
            if self.path == "/hold":
                noted.holds.set()
                noted.goes_on.wait(HOLD_S)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"welcome {subject}".encode())

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 # as the base class has it
            """What is noted is enough."""

    class Server(ThreadingHTTPServer):
        def get_request(self) -> tuple[ssl.SSLSocket, Any]:
            # Shaken hands with in its own thread: whoever says nothing keeps nobody else waiting.
            plain, address = super().get_request()
            return context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

        def handle_error(self, request: object, client_address: object) -> None:
            noted.refused.append(str(sys.exception()))

    with Server(("127.0.0.1", 0), Answers) as server:
        noted.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield noted
        finally:
            noted.goes_on.set()
            server.shutdown()
            thread.join()


def _shown(certificate: Any) -> str:
    return "/".join(value for part in certificate["subject"] for _, value in part)


@contextmanager
def trusted_grid(authority: Credential, folder: Path, server: Demanding) -> Iterator[Grid]:
    """A broker with TLS, and a launcher whose token carries a label, on a node that trusts the server's address."""
    broker = with_tls(Home(folder, guestfs_environment(folder)), authority, certificates.server(authority))
    with broker.serving():
        tokens, token = Tokens(load_keys(broker.data / "keys")), folder / "renci.token"
        token.write_text(tokens.issue("renci", scopes_of_launcher(), timedelta(hours=1), ("renci",)))
        token.chmod(0o600)
        told = {
            "--broker": broker.url,
            "--token-file": token,
            "--ca-file": broker.authority,
            "--trusted-origin": f"127.0.0.1:{server.port}",
            "--vms": 1,
        }
        arguments = [str(word) for pair in told.items() for word in pair]
        with launched(broker, folder, *arguments) as log:
            yield Grid(broker, folder, log)


def where_it_is(forms: list[bytes], folder: Path) -> list[str]:
    """Return the files of node, broker and alice, the command lines and the environments that hold any of the forms."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    processes = [path for name in ("cmdline", "environ") for path in Path("/proc").glob(f"[0-9]*/{name}")]
    return [str(path) for path in (*files, *processes) if any(form in _content(path) for form in forms)]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def forms_of_key(proxy: Credential) -> list[bytes]:
    """Return the key as it could be found: each line of its PEM, and the number itself."""
    number = proxy.key.private_numbers().private_value.to_bytes(32, "big")
    return [number, *(line for line in proxy.key_pem.splitlines() if not line.startswith(b"-----"))]


@dataclass(frozen=True)
class Used:
    """What came of the one item: what its program saw, whom the server let in, where the key was found."""

    seen: dict[str, str]
    server: Demanding
    proxy: Credential
    while_running: list[str]
    afterwards: list[str]
    searched: list[str]
    """Where the same search finds what is no secret: the guest's own word, and the folder's name."""
    log: bytes
    console: bytes
    kinds: list[str]


def _use(grid: Grid, server: Demanding, authority: Credential, proxy: Credential, image: Path) -> Used:
    home, forms = grid.home, forms_of_key(proxy)
    home.ok("broker", "secret", "add", "proxy", "--kind", "x509_proxy", stdin=proxy.as_proxy_file.decode())
    home.ok("broker", "secret", "add", "licence", stdin=LICENCE.decode())
    grid.add_machine("cloud", image)
    given = {"--secret": ("proxy", "licence"), "--trust": ("renci",), "--network": (f"127.0.0.1:{server.port}",)}
    words = [word for flag, values in given.items() for value in values for word in (flag, value)]
    params = ("--param", f"PORT={server.port}", "--param", f"AUTHORITY={authority.pem.decode()}")
    grid.add_stream("grid", "cloud", "{script} {output}", "--script", str(PROGRAM), "--as", "nobody", *words, *params)
    home.ok("broker", "push", "grid", "--count", "1")
    is_over = ("done", "held", "cancelled")
    wait_until(
        lambda: server.holds.is_set() or grid.broker.items("grid")[0]["state"] in is_over,
        "the program uses its proxy",
        timeout_s=HOLD_S,
    )
    while_running = where_it_is(forms, grid.folder)
    searched = where_it_is([b"keeps 2 secrets in memory", bytes(grid.folder)], grid.folder)
    server.goes_on.set()
    (item,) = grid.settled("grid", timeout_s=200)
    assert item["state"] == "done", grid.story("grid/1")
    wait_until(lambda: grid.broker.items("grid")[0]["vm"].get("verdict"), "the vm's end is told", timeout_s=60)
    outputs = grid.outputs("grid")
    raw = [home.run("broker", name, "grid/1").out.encode() for name in ("logs", "console")]
    return Used(
        seen=dict(line.split(": ", 1) for line in outputs["seen"].decode().splitlines()),
        server=server,
        proxy=proxy,
        while_running=while_running,
        searched=searched,
        afterwards=where_it_is([*forms, LICENCE], grid.folder),
        log=raw[0],
        console=raw[1],
        kinds=[word for line in home.ok("broker", "events", "grid").splitlines() for word in line.split()],
    )


@pytest.fixture(scope="module")
def used(cloud_image: Path) -> Used:
    authority = certificates.authority()
    proxy = certificates.proxy(certificates.person(authority, "alice"))
    with (
        short_folder("vx-") as folder,
        demanding(authority, folder) as server,
        trusted_grid(authority, folder, server) as grid,
    ):
        return _use(grid, server, authority, proxy, cloud_image)


def test_without_the_proxy_the_server_lets_nobody_in(used: Used) -> None:
    assert used.seen["without"].startswith("refused: ")
    assert any("peer did not return a certificate" in each for each in used.server.refused), used.server.refused


def test_the_server_verifies_the_proxy_and_lets_it_in_by_its_own_subject(used: Used) -> None:
    own = used.proxy.certificate.subject.rdns[-1].rfc4514_string().removeprefix("CN=")
    subject = f"grid/alice/{own}"
    assert used.seen["with"] == used.seen["held"] == f"welcome {subject}"
    assert used.server.let_in == [subject] * 2


def test_in_the_vm_it_lies_in_memory_for_the_programs_account_alone(used: Used) -> None:
    assert used.seen["account"] == str(NOBODY)
    assert used.seen["folder"] == f"700 {NOBODY}"
    assert used.seen["file"] == f"600 {NOBODY}"
    assert used.seen["file system"] in {"tmpfs", "ramfs"}
    assert used.seen["files"] == "licence proxy"


def test_the_key_is_in_no_file_of_the_node_or_the_broker_and_in_no_process(used: Used) -> None:
    assert any("console" in place for place in used.searched), "the node's own files are searched"
    assert any(place.endswith("/cmdline") for place in used.searched), "the vm's process is searched"
    assert used.while_running == []
    assert used.afterwards == []


def test_what_the_program_printed_of_a_secret_is_masked(used: Used) -> None:
    for said in (used.log, used.console):
        assert b"the licence is [secret] and no other" in said
        assert LICENCE not in said


def test_each_hand_out_is_an_event(used: Used) -> None:
    assert used.kinds.count("secret.given") == 2

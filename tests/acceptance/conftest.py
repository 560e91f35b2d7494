"""One grid for the tests that need nothing broken: a broker, a launcher, and items that fail or succeed in real vms.

All items are pushed at once and run two at a time; the tests look at what became of them.
"""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.grid import REPOSITORY, Broker, Home, built_image, free_port
from tests.support.launching import launched, short_folder

DOMAIN = REPOSITORY / "tests" / "support" / "domains" / "minimal.xml"
COPY = '/bin/sh -c "cat {input} > {output}/copy && id -u"'


@dataclass(frozen=True)
class Grid:
    broker: Broker
    folder: Path
    launcher_log: Path

    @property
    def home(self) -> Home:
        return self.broker.home


@contextmanager
def web_without_files() -> Iterator[str]:
    """A web server of somebody else's, which answers 404 to everything; gives its HOST:PORT."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.RequestHandlerClass = NothingHere
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class NothingHere(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404, "Not Found")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture(scope="session")
def minimal_image() -> Path:
    return built_image("minimal")


@pytest.fixture(scope="package")
def grid(minimal_image: Path) -> Iterator[Grid]:
    """The grid after everything that was pushed has settled."""
    with short_folder("va-") as folder, web_without_files() as elsewhere:
        broker = Broker(Home(folder), free_port())
        with broker.serving(), launched(broker, folder, "--trusted-origin", elsewhere) as log:
            push_everything(broker.home, minimal_image, folder, elsewhere)
            yield Grid(broker, folder, log)


def push_everything(home: Home, image: Path, folder: Path, elsewhere: str) -> None:
    for letter in "abc":
        (folder / f"{letter}.txt").write_text(f"work of {letter}\n")
    home.ok("broker", "machine", "add", "minimal", str(DOMAIN), "--disk", f"vda={image}")
    streams = {
        "copies": (COPY, [str(folder / f"{letter}.txt") for letter in "abc"]),
        "absent": (COPY, [f"http://{elsewhere}/no-such-frame.exr"]),
        "broken": ('/bin/sh -c "echo cannot read the frame >&2; exit 3"', [str(folder / "a.txt")]),
    }
    for name, (program, inputs) in streams.items():
        home.ok("broker", "stream", "add", name, "--machine", "minimal", "--run", program, "--attempts", "1")
        home.ok("broker", "push", name, *inputs)
    for name in streams:
        # Exit status 1 says that an item is held, which two of the streams are meant to end with.
        said = home.run("broker", "watch", name, timeout_s=300)
        assert said.status == (0 if name == "copies" else 1), said

"""The page on callbacks says what works: its blocks against a real broker, and a server that verifies as it says."""

import http.server
import os
import re
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.api import IMAGE, XML
from tests.support.authority import Authority
from tests.support.grid import REPOSITORY, Broker, Home, free_port

PAGE = (REPOSITORY / "docs/how-to/callbacks.md").read_text()
MAKE_KEY, NAME, VERIFY, REPLACE = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(RECEIVE,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
Receive = Callable[[Mapping[str, str], bytes], int]


class Scene(NamedTuple):
    home: Home
    broker: Broker
    url: str
    told: list[tuple[Mapping[str, str], bytes]]
    answers: list[Receive]
    """The last one answers."""

    def sh(self, block: str, **given: str) -> str:
        """Run a block of the page in the home's folder, as `set -e`; it must succeed."""
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.replace("https://alice.example/hook", self.url)],
            cwd=self.home.folder,
            env={
                **self.home.environment(),
                "PATH": f"{self.home.program('broker').parent}:{os.environ['PATH']}",
                **given,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@contextmanager
def server(
    context: ssl.SSLContext, told: list[tuple[Mapping[str, str], bytes]], answers: list[Receive]
) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = dict(self.headers.items())
            told.append((headers, body))
            self.send_response(answers[-1](headers, body))
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it so
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving.socket = context.wrap_socket(serving.socket, server_side=True)
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    try:
        yield serving.server_port
    finally:
        serving.shutdown()
        serving.server_close()
        thread.join()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home, authority = Home(tmp_path_factory.mktemp("c")), Authority()
    folder = home.folder
    (folder / "ca.pem").write_text(authority.ca_pem)
    (folder / "m.xml").write_text(XML)
    (folder / "m.img").write_bytes(IMAGE)
    told: list[tuple[Mapping[str, str], bytes]] = []
    answers: list[Receive] = [lambda *_: 204]
    with server(authority.server_context(folder, "127.0.0.1"), told, answers) as port:
        home.extra["VMBROKER_BROKER_OUTGOING_TRUSTED"] = f"127.0.0.1:{port}"
        home.extra["VMBROKER_BROKER_OUTGOING_CA"] = str(folder / "ca.pem")
        broker = Broker(home, free_port())
        with broker.serving():
            home.ok("broker", "machine", "add", "deb12", str(folder / "m.xml"), "--disk", f"vda={folder / 'm.img'}")
            scene = Scene(home, broker, f"https://127.0.0.1:{port}/hook", told, answers)
            scene.sh(MAKE_KEY)
            home.ok("broker", "secret", "add", "own", "--kind", "webhook_key", "--file", str(folder / "hook.key"))
            yield scene


def receive_of_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Receive:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(RECEIVE, names)  # the page's own lines
    found: Receive = names["receive"]
    return found


def test_what_the_page_says_works_as_it_stands(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.answers.append(receive_of_the_page(scene.home.folder, monkeypatch))
    said = scene.sh(NAME)
    assert "its server answered 204" in said
    headers, body = scene.told[-1]
    assert "org.vmbroker.callback.test" in capsys.readouterr().out
    assert scene.answers[-1](headers, body) == 204
    assert capsys.readouterr().out == "", "the same one is not taken twice"
    assert scene.answers[-1](headers, body + b" ") == 401

    (scene.home.folder / "body").write_bytes(body)
    given = {name.replace("-", "_"): headers[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
    scene.sh(VERIFY, **given)
    with pytest.raises(AssertionError):
        scene.sh(VERIFY, **{**given, "webhook_id": "evt_0"})

    scene.sh(REPLACE.partition("mv new.key")[0])
    scene.sh("broker callback test render")
    assert len(scene.told[-1][0]["webhook-signature"].split()) == 2
    with monkeypatch.context() as there:
        assert receive_of_the_page(scene.home.folder, there)(*scene.told[-1]) == 204
    scene.sh("mv new.key" + REPLACE.partition("mv new.key")[2])
    scene.answers.append(receive_of_the_page(scene.home.folder, monkeypatch))
    assert "its server answered 204" in scene.sh("broker callback test render")


def test_a_test_says_why_nothing_was_delivered(scene: Scene) -> None:
    add = ("broker", "stream", "add", "told", "--machine", "deb12", "--run", "x")
    scene.home.ok(*add, "--callback", f"url={scene.url}", "--callback", "secret=own")
    scene.answers.append(lambda *_: 302)
    said = scene.home.run("broker", "callback", "test", "told")
    assert said.status == 1
    assert "its server answered 302: redirects are not followed" in said.out
    scene.home.ok("broker", "stream", "add", "quiet", "--machine", "deb12", "--run", "x")
    said = scene.home.run("broker", "callback", "test", "quiet")
    assert said.status == 4
    assert "no callback is named by the stream alice/quiet" in said.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("url=https://127.0.0.1:1/x", "secret=none"), "callback: there is no secret alice/none"),
        (("url=https://127.0.0.1:1/x", "secret=licence"), "callback: licence is file, no webhook_key"),
        (("url=http://share.example/x", "secret=own"), "http://share.example/x is without TLS"),
        (("url=https://127.0.0.1:1/x",), "write { url"),
        (("address=https://127.0.0.1:1/x",), "write url=URL, secret=NAME or event=KIND"),
    ],
)
def test_a_callback_that_cannot_be_is_refused_when_the_stream_is_put(
    scene: Scene, flags: tuple[str, ...], said: str
) -> None:
    scene.home.ok("broker", "secret", "add", "licence", stdin="a licence of some kind")
    callback = [word for flag in flags for word in ("--callback", flag)]
    refused = scene.home.run("broker", "stream", "add", "x", "--machine", "deb12", "--run", "x", *callback)
    assert refused.status in {2, 4}
    assert said in refused.err


def test_a_webhook_key_is_looked_at_and_given_to_no_vm(scene: Scene) -> None:
    refused = scene.home.run("broker", "secret", "add", "k", "--kind", "webhook_key", stdin="not much of a key")
    assert (refused.status, "begins with whsec_" in refused.err) == (4, True)
    add = ("broker", "stream", "add", "x", "--machine", "deb12", "--run", "x", "--trust", "renci", "--secret")
    refused = scene.home.run(*add, "own:webhook_key")
    assert "secrets: webhook_key is given to no vm; name it in callback" in refused.err

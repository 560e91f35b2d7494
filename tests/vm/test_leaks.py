"""Where a vm's secrets are not: looked for while it works and when it is gone, by a search that finds what is planted.

The vm is a cloud image: its systemd, cloud-init and disk offer a secret more places to end up in than a busybox does.
Its client works by the port; the ticket's two other ways stand ready all the same. Not looked at is what nothing can
hide from the node's root: the memory of QEMU's process, in which the guest lives.
"""

import codecs
import http.server
import json
import os
import re
import secrets
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from broker.auth.keys import load_keys
from broker.auth.tickets import hash_claim_key, make_lease_token, make_nonce, verify_ticket
from broker.wire.names import parse_item
from tests.support.grid import Broker, Home, free_port
from tests.support.launching import launched, short_folder
from tests.support.leaks import Found, Node, Search, Secret, in_a_process
from tests.support.waiting import wait_until
from tests.vm.conftest import DOMAIN, SETTLED

pytestmark = [pytest.mark.vm, pytest.mark.timeout(420)]

STREAM = "careful"
FIRST_FENCE = 1
SCRIPT = r"""#!/usr/bin/python3
import codecs, contextlib, os, pathlib, sys, urllib.request
(key,) = pathlib.Path("/run/vmbroker").glob("claim-key-????????????????")
print("masked:", codecs.encode(key.read_text(), "rot13")[::-1], ":", flush=True)
with open(pathlib.Path(sys.argv[-1], "seen"), "wb") as seen:
    for file in [*pathlib.Path("/proc").glob("[0-9]*/environ"), *pathlib.Path("/proc").glob("[0-9]*/cmdline")]:
        with contextlib.suppress(OSError):  # kernel threads have none
            seen.write(file.read_bytes())
pathlib.Path("/root/planted").write_text(os.environ["VMBROKER_PARAM_DETNALP"][::-1])
os.sync()
for name in ("no_proxy", "NO_PROXY"):
    os.environ.pop(name, None)
urllib.request.urlopen(os.environ["VMBROKER_PARAM_GATE"], timeout=300).read()
"""
"""Tells the test its claim key in a mask, plants something on its disk, and ends when the test has looked."""


class Gate(http.server.ThreadingHTTPServer):
    """Answers whoever asks when the test opens it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Keeper)
        self.asked, self.opened = threading.Event(), threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Keeper(http.server.BaseHTTPRequestHandler):
    server: Gate

    def do_GET(self) -> None:
        self.server.asked.set()
        self.server.opened.wait(300)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it so
        pass


@contextmanager
def gate() -> Iterator[Gate]:
    server = Gate()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.opened.set()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Scene:
    """A vm that works: where it is, and what of it must not be seen."""

    node: Node
    secrets: list[Secret]
    lease: str
    guest_planted: Secret
    outputs: bytes = b""
    found: dict[str, list[Found]] = field(default_factory=dict)
    looked_at: dict[str, dict[str, int]] = field(default_factory=dict)
    planted_in: dict[str, str] = field(default_factory=dict)

    def search(self, name: str, secrets: list[Secret], *, with_vm: bool) -> None:
        search = self.node.search(secrets, with_vm=with_vm)
        self.found[name], self.looked_at[name] = search.found, search.looked_at


@pytest.fixture(scope="module")
def scene(cloud_image: Path) -> Iterator[Scene]:
    """What was found while the vm worked, after planting, and when launcher and vm were gone."""
    with short_folder("vl-") as folder, gate() as the_gate, ExitStack() as stack:
        broker = Broker(Home(folder), free_port())
        stack.enter_context(broker.serving())
        planted = Secret("planted in the guest", secrets.token_urlsafe(32))
        push(broker, folder, cloud_image, the_gate, planted)
        with launched(broker, folder, "--trusted-origin", the_gate.address):
            wait_until(
                lambda: the_gate.asked.is_set() or has_settled(broker), "the program runs", timeout_s=240, poll_s=0.5
            )
            assert the_gate.asked.is_set(), broker.home.run("broker", "logs", f"{STREAM}/1").out
            scene = looked_up(broker, folder, planted)
            scene.search("at work", scene.secrets, with_vm=True)
            with planted_everywhere(scene) as canary:
                scene.search("planted", [canary, planted], with_vm=True)
            assert extend(broker, scene.lease)["instruction"] == "continue", "the lease is not what was looked for"
            the_gate.opened.set()
            wait_until(lambda: item_of(broker)["state"] == "done", "the item is done", timeout_s=120)
        scene.outputs = downloaded(broker, folder)
        scene.search("gone", scene.secrets, with_vm=False)
        yield scene


def push(broker: Broker, folder: Path, image: Path, the_gate: Gate, planted: Secret) -> None:
    home, script = broker.home, folder / "script"
    script.write_text(SCRIPT)
    home.ok("broker", "machine", "add", "cloud", str(DOMAIN), "--disk", f"vda={image}", timeout_s=300)
    params = ("--param", f"DETNALP={planted.text[::-1]}", "--param", f"GATE=http://{the_gate.address}/")
    sent = ("--script", str(script), "--network", the_gate.address, *params)
    home.ok("broker", "stream", "add", STREAM, "--machine", "cloud", "--attempts", "1", "--boots", "1", *sent)
    home.ok("broker", "push", STREAM, "--count", "1")


def item_of(broker: Broker) -> dict[str, Any]:
    return dict(broker.items(STREAM)[0])


def has_settled(broker: Broker) -> bool:
    return item_of(broker)["state"] in SETTLED


def looked_up(broker: Broker, folder: Path, planted: Secret) -> Scene:
    """Learn the vm's secrets: the ticket as QEMU got it, the claim key from the guest, the lease by the rule."""
    dispatch = item_of(broker)["vm"]["dispatch"]
    (file,) = folder.glob(f"n/*/{dispatch[:8]}/ticket")
    ticket = json.loads(file.read_text())["ticket"]
    (masked,) = re.findall(r"masked: (\S+) :", (file.parent / "console.log").read_text())
    claim_key = codecs.decode(masked[::-1], "rot13")
    keys = load_keys(broker.data / "keys").mac
    nonce = make_nonce(keys, verify_ticket(keys, ticket), hash_claim_key(claim_key))
    lease = make_lease_token(parse_item(f"alice/{STREAM}/1", None), FIRST_FENCE, nonce)
    launcher_token = broker.token("launcher")
    known = {
        "ticket": ticket.rpartition(".")[2],
        "claim key": claim_key.rstrip("="),
        "lease": lease.rpartition(".")[2],
        "launcher's token": launcher_token.rpartition(".")[2],
    }
    return Scene(Node(broker, folder, dispatch), [Secret(name, text) for name, text in known.items()], lease, planted)


def extend(broker: Broker, lease: str) -> dict[str, Any]:
    return dict(broker.call("POST", "/v1/lease/extend", {}, lease))


def downloaded(broker: Broker, folder: Path) -> bytes:
    out = folder / "out"
    broker.home.ok("broker", "results", STREAM, "--download", str(out))
    (seen,) = [path for path in out.rglob("seen") if path.is_file()]
    return seen.read_bytes()


@contextmanager
def planted_everywhere(scene: Scene) -> Iterator[Secret]:
    """Put a canary into a place of each kind; the vm goes on with it."""
    canary = Secret("canary", secrets.token_urlsafe(32))
    text = canary.text
    node = scene.node
    name = f"vmb-{node.dispatch[:8]}"
    set_it = ("--uri", "urn:canary", "--key", "canary", "--set", f"<c>{text}</c>", "--live")
    subprocess.run(["virsh", "-c", node.uri, "metadata", name, *set_it], check=True, capture_output=True, timeout=30)
    core = Path(f"/tmp/core.{os.getpid()}.canary")
    (log,) = node.folder.glob(f"n/*/d/cache/libvirt/qemu/log/{name}.log")
    files = [node.run_folder / "canary", node.run_folder.parent / "canary", node.folder / "c" / "canary", core]
    logs = [log, node.broker.log, node.folder / "launcher.log"]
    try:
        for path in (*files, *logs):
            with path.open("a") as file:
                file.write(f"{text}\n")
        with redis.Redis.from_url(node.store) as store:
            store.hset("canary", "field", text)
        with in_a_process(canary):
            scene.planted_in = dict.fromkeys((str(path) for path in (*files, *logs)), "a file")
            yield canary
    finally:
        with redis.Redis.from_url(node.store) as store:
            store.delete("canary")
        for path in files:
            path.unlink(missing_ok=True)


def test_the_search_finds_what_is_planted_in_each_kind_of_place(scene: Scene) -> None:
    found = [(one.kind, one.place) for one in scene.found["planted"] if one.secret == "canary"]
    kinds = {kind for kind, _ in found}
    assert kinds == {"command line", "environment", "domain XML", "file", "file of the system", "store"}
    places = {place for _, place in found}
    assert places >= scene.planted_in.keys(), scene.planted_in.keys() - places
    assert any("appendonly" in place for place in places), places
    assert ("store", repr(b"canary")) in found


def test_the_search_sees_what_the_guest_writes_to_its_disk(scene: Scene) -> None:
    found = [one for one in scene.found["planted"] if one.secret == scene.guest_planted.name]
    assert {one.kind for one in found} == {"disk of the guest", "file"}
    assert [Path(one.place).name for one in found if one.kind == "file"] == ["vda.qcow2"]


def test_while_the_vm_works_two_closed_files_hold_its_ticket_and_nothing_else_does(
    scene: Scene,
) -> None:
    found = [one for one in scene.found["at work"] if one.secret != "launcher's token"]
    assert {(one.secret, one.kind) for one in found} == {("ticket", "file")}, found
    assert sorted(Path(one.place).name for one in found) == ["seed.iso", "ticket"]
    assert {Path(one.place).parent.name for one in found} == {scene.node.dispatch[:8]}


def test_a_launchers_token_is_where_its_login_is_kept_and_nowhere_else(scene: Scene) -> None:
    for when in ("at work", "gone"):
        places = {(one.kind, Path(one.place).name) for one in scene.found[when] if one.secret == "launcher's token"}
        assert places == {("file", "launcher.json")}


def test_when_the_vm_is_gone_none_of_its_secrets_is_anywhere(scene: Scene) -> None:
    assert [one for one in scene.found["gone"] if one.secret != "launcher's token"] == []


def test_no_process_in_the_guest_has_a_secret_in_its_environment_or_command_line(scene: Scene) -> None:
    search = Search([*scene.secrets, Secret("param", scene.guest_planted.text[::-1])])
    search.look("guest", "processes", scene.outputs)
    assert [one.secret for one in search.found] == ["param"]


def test_the_search_looked_everywhere_each_time(scene: Scene) -> None:
    for when in ("at work", "planted"):
        looked_at = scene.looked_at[when]
        assert looked_at["domain XML"] == 3
        assert looked_at["disk of the guest"] == 1
    for looked_at in scene.looked_at.values():
        assert min(looked_at[kind] for kind in ("command line", "file", "store")) >= 10, looked_at
        # An account may not read every process's: the test's own, the broker's and its store's it may.
        assert looked_at["environment"] >= 3, looked_at

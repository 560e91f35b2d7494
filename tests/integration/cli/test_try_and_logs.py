import base64
import io
import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.api import Api, claim, offer, run_item
from tests.support.grid import Broker, Home
from tests.support.waiting import wait_until

XML = "<domain type='qemu'><name>vmb-1</name><!-- \x85 --></domain>"
CONSOLE = b"Linux version 6.1\r\nlogin: \x1b[2J\n"


async def _fail_item(launcher: Api, log: str = "") -> str:
    """Take the next item, let its program fail as a guest would, and its vm end; return the item's name."""
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    guest = launcher.bearing((await claim(launcher, dispatched["ticket"])).json["lease"])
    failure = {"code": "program_failed", "sentence": "the program exited with status 3", "exit_code": 3}
    said = base64.b64encode(log.encode()).decode()
    await guest.ok("POST", "/v1/lease/fail", json={**failure, "log": said})
    await _end(launcher, dispatched["dispatch"], "stopped_early")
    return str(dispatched["item"])


async def _end(launcher: Api, dispatch: str, verdict: str) -> None:
    end = {
        "launcher": "l1",
        "verdict": verdict,
        "sentence": "the vm is gone",
        "console": base64.b64encode(CONSOLE).decode(),
        "domain_xml": XML,
        "facts": {"qemu": "7.2.22", "kernel": "6.1.0"},
    }
    await launcher.ok("POST", f"/v1/dispatches/{dispatch}/end", json=end)


def _tried_once(home: Home, stream: str) -> None:
    home.ok("broker", "stream", "add", stream, "--machine", "m", "--run", "/opt/app/run", "--attempts", "1")


async def test_logs_show_all_that_was_said_with_control_characters_made_visible(
    home: Home, stream: str, launcher: Api
) -> None:
    _tried_once(home, stream)
    home.ok("broker", "push", stream, "--count", "1")
    item = await _fail_item(launcher, "out of \x1b[31mmemory\n")

    shown = home.ok("broker", "logs", item)

    assert "held" in shown
    assert "the program exited with status 3" in shown
    assert "out of ^[[31mmemory" in shown
    assert "login: ^[[2J" in shown
    assert "7.2.22" in shown
    assert "n1" in shown
    assert "\x1b" not in shown
    assert home.ok("broker", "logs", item, "--output") == "out of ^[[31mmemory\n"
    assert home.ok("broker", "logs", item, "--console") == home.ok("broker", "console", item)
    assert (
        home.ok("broker", "logs", item, "--xml") == "<domain type='qemu'><name>vmb-1</name><!-- \\u0085 --></domain>\n"
    )


async def test_bundle_holds_everything_but_what_opens_a_door(
    home: Home, broker: Broker, stream: str, launcher: Api, tmp_path: Path
) -> None:
    home.ok(
        "broker", "stream", "add", stream, "--machine", "m", "--run", "r", "--attempts", "1", "--param", "pin=0f3a9c"
    )
    url = "https://share.example/in.txt?X-Amz-Signature=5ec7e7"
    home.ok("broker", "push", stream, url, "--param", "password=hunter2")
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    claimed = (await claim(launcher, dispatched["ticket"])).json
    guest = launcher.bearing(claimed["lease"])
    signed = (await guest.ok("POST", "/v1/lease/urls", json={"outputs": ["o"]}))["outputs"]["o"]["url"]
    assert launcher.token is not None
    secrets = [
        dispatched["ticket"],
        claimed["lease"],
        signed,
        launcher.token,
        broker.token(),
        "http://vm:pass@10.0.2.2/",
        "hunter2 0f3a9c",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIB\n-----END RSA PRIVATE KEY-----",
    ]
    log = base64.b64encode("\n".join(secrets).encode()).decode()
    failure = {"code": "program_failed", "sentence": f"hunter2: no {signed}", "exit_code": 3, "log": log}
    await guest.ok("POST", "/v1/lease/fail", json=failure)
    await _end(launcher, dispatched["dispatch"], "stopped_early")
    target = tmp_path / "bundle.tar.gz"

    home.ok("broker", "logs", dispatched["item"], "--bundle", str(target))

    assert target.stat().st_mode & 0o777 == 0o600
    with tarfile.open(target) as archive:
        files = {member.name: _content(archive, member) for member in archive.getmembers()}
    folder = dispatched["item"].replace("/", "-")
    names = {"item.json", "why.txt", "node.json", "output.log", "console.log", "domain.xml", "events.ndjson"}
    assert set(files) == {f"{folder}/{name}" for name in names}
    assert files[f"{folder}/domain.xml"] == XML.encode()
    assert files[f"{folder}/console.log"] == CONSOLE
    assert json.loads(files[f"{folder}/node.json"])["facts"]["qemu"] == "7.2.22"
    kinds = [json.loads(line)["type"] for line in files[f"{folder}/events.ndjson"].splitlines()]
    assert kinds[0].endswith("item.dispatched")
    assert kinds[-1].endswith("vm.ended")
    whole = b"\n".join(files.values())
    macs = [secret.rpartition(part)[2] for secret, part in zip(secrets[:3], ("vt1", "vl1", "signature="), strict=True)]
    for secret in [*secrets, *macs, "pass@", "5ec7e7", "hunter2", "0f3a9c", "MIIEpAIB"]:
        assert secret.encode() not in whole, secret
    again = home.run("broker", "logs", dispatched["item"], "--bundle", str(target))
    assert (again.status, "exists already: name another file" in again.err) == (1, True)


def test_what_was_not_kept_is_left_out_and_asked_for_alone_it_is_named(home: Home, stream: str) -> None:
    home.ok("broker", "push", stream, "--count", "1")

    assert "it had no vm yet" in home.ok("broker", "logs", f"{stream}/1")
    refused = home.run("broker", "logs", f"{stream}/1", "--xml")
    assert (refused.status, "no XML was kept of" in refused.err) == (4, True)
    two = home.run("broker", "logs", f"{stream}/1", "--xml", "--console")
    assert (two.status, "ask for one of" in two.err) == (2, True)


async def test_try_follows_one_item_to_its_outputs(home: Home, stream: str, launcher: Api, tmp_path: Path) -> None:
    log, source = tmp_path / "tried", tmp_path / "frame.txt"
    source.write_text("a frame")
    command = ("broker", "try", stream, str(source), "--param", "k=v", "--download", str(tmp_path / "out"))
    with home.running(log, *command) as trying:
        wait_until(lambda: "pushed" in log.read_text(), "the item is pushed")
        item = await run_item(launcher, b"a result", b"rendered\n")
        wait_until(lambda: trying.poll() is not None, "it ends by itself", timeout_s=30)

    text = log.read_text()
    words = (
        "pushed",
        "dispatched to n1",
        "the program runs",
        "bye^[[2J",
        "rendered",
        "out.txt",
        f"{item} is done; completed",
    )
    places = [text.index(word) for word in words]
    assert places == sorted(places)
    assert (tmp_path / "out/1/out.txt").read_bytes() == b"a result"
    assert "k=v" in home.ok("broker", "status", item)


async def test_try_of_a_program_that_fails_shows_why_and_what_to_do(
    home: Home, stream: str, launcher: Api, tmp_path: Path
) -> None:
    _tried_once(home, stream)
    log = tmp_path / "tried"
    with _running(home, log, "broker", "try", stream) as trying:
        wait_until(lambda: "pushed" in log.read_text(), "the item is pushed")
        item = await _fail_item(launcher, "cannot read the frame\n")
        assert trying.wait(30) == 1

    text = log.read_text()
    for said in ("the program exited with status 3", "cannot read the frame", "login: ^[[2J", f"broker logs {item}"):
        assert said in text
    assert "\x1b" not in text


@pytest.mark.usefixtures("interruptible")
def test_try_that_nobody_takes_says_why_and_leaves_the_item(home: Home, stream: str, tmp_path: Path) -> None:
    said = home.run("broker", "try", stream, "--timeout", "1s")

    assert said.status == 1
    assert f"alice/{stream}/1 is not settled after 1s; it stays: go on with `broker watch alice/{stream}`" in said.err
    log = tmp_path / "tried"
    with _running(home, log, "broker", "try", stream) as trying:
        wait_until(lambda: "pushed" in log.read_text(), "the item is pushed")
        trying.send_signal(signal.SIGINT)
        assert trying.wait(30) == 130
    assert f"alice/{stream}/2 was left to itself; it stays" in log.read_text()
    assert "ready" in home.ok("broker", "status", f"{stream}/2")


async def test_why_names_what_a_ready_item_waits_for(home: Home, stream: str, launcher: Api) -> None:
    home.ok("broker", "push", stream, "--count", "3")
    taken = 0
    while taken < 2:  # other tests' items may be ready, too
        dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
        taken += dispatched["item"].startswith(f"alice/{stream}/")

    assert "two canaries of this stream are out; more follow" in home.ok("broker", "why", f"{stream}/3")


@contextmanager
def _running(home: Home, log: Path, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command that may end with any status; killed at the end when it still runs."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            env=home.environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert isinstance(file, io.BufferedReader)
    return file.read()

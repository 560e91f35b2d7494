import csv
import json
import signal
import subprocess
from pathlib import Path

import pytest
import redis

from tests.support.api import IMAGE, Api, claim, digest_of, offer, run_item
from tests.support.grid import Broker, Home, free_port
from tests.support.typed import Typed
from tests.support.waiting import wait_until


async def test_files_pushed_come_back_as_verified_results(
    home: Home, stream: str, launcher: Api, tmp_path: Path
) -> None:
    inputs = [tmp_path / f"frame {number}.txt" for number in range(3)]
    for file in inputs:
        file.write_text(file.name)

    assert (
        home.ok("broker", "push", stream, *map(str, inputs))
        == f"3 items pushed: alice/{stream}/1 to alice/{stream}/3\n"
    )
    for _ in inputs:
        await run_item(launcher, log=b"\x1b]0;evil\x07fine\n")

    assert home.ok("broker", "watch", stream).splitlines()[-1] == f"alice/{stream}: 3 done"
    assert home.ok("broker", "status", stream).split()[-2:] == ["done", "3"]
    out = tmp_path / "out"
    table = home.ok("broker", "results", stream, "--download", str(out))
    assert "frame 1.txt" in table
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.txt")) == [
        "1/out.txt",
        "2/out.txt",
        "3/out.txt",
    ]
    assert (out / "2/out.txt").read_bytes() == b"a result"
    assert home.ok("broker", "logs", f"{stream}/1", "--output") == "^[]0;evil^Gfine\n"
    assert home.ok("broker", "console", f"{stream}/1") == "bye^[[2J\n"
    item = home.ok("broker", "status", f"{stream}/1")
    assert "done" in item
    assert f"file:alice/{stream}/inputs/{digest_of(b'frame 0.txt')[7:23]}/frame 0.txt" in item


async def test_a_result_is_never_written_over_something_else(
    home: Home, stream: str, launcher: Api, tmp_path: Path
) -> None:
    home.ok("broker", "push", stream, "--count", "2")
    for content in (b"first", b"second"):
        await run_item(launcher, content)
    (tmp_path / "1").mkdir()
    (tmp_path / "1/out.txt").write_bytes(b"mine")

    kept = home.run("broker", "results", stream, "--download", str(tmp_path))
    assert kept.status == 1
    assert "exists with other bytes: add --force to replace it" in kept.err
    assert (tmp_path / "1/out.txt").read_bytes() == b"mine"
    assert (tmp_path / "2/out.txt").read_bytes() == b"second"
    home.ok("broker", "results", stream, "--download", str(tmp_path), "--force")
    assert (tmp_path / "1/out.txt").read_bytes() == b"first"


async def test_watch_ends_with_1_when_an_item_is_held(home: Home, stream: str, launcher: Api) -> None:
    home.ok("broker", "stream", "add", stream, "--machine", "m", "--run", "/opt/app/run", "--attempts", "1")
    home.ok("broker", "push", stream, "--count", "1")
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    guest = launcher.bearing((await claim(launcher, dispatched["ticket"])).json["lease"])
    failure = {"code": "program_failed", "sentence": "the program exited with status 3", "exit_code": 3}
    await guest.ok("POST", "/v1/lease/fail", json=failure)

    watched = home.run("broker", "watch", stream)

    assert watched.status == 1
    assert "held: the program exited with status 3" in watched.out
    assert "the program exited with status 3" in home.ok("broker", "status", stream)
    assert "the program exited with status 3" in home.ok("broker", "why", f"{stream}/1")


async def test_watch_ends_though_the_log_no_longer_tells_of_all_items(
    home: Home, broker: Broker, stream: str, launcher: Api
) -> None:
    home.ok("broker", "push", stream, "--count", "2")
    for _ in range(2):
        await run_item(launcher)
    with redis.Redis(unix_socket_path=str(broker.data / "store" / "store.sock")) as store:
        [log] = store.keys(f"*events:alice/{stream}")
        assert store.xtrim(log, maxlen=1, approximate=False)

    watched = home.ok("broker", "watch", stream, timeout_s=30).splitlines()

    assert watched[0] == "… earlier events are no longer kept"
    assert watched[-1] == f"alice/{stream}: 2 done"


async def test_watch_follows_what_happens_until_its_end(home: Home, stream: str, launcher: Api, tmp_path: Path) -> None:
    home.ok("broker", "push", stream, "--count", "1")
    log = tmp_path / "watched"
    with home.running(log, "broker", "watch", stream) as watching:
        wait_until(lambda: "pushed" in log.read_text(), "the watcher is there")
        await run_item(launcher)
        wait_until(lambda: watching.poll() is not None, "the watcher ends by itself")

    assert watching.returncode == 0
    text = log.read_text()
    assert text.index("dispatched to n1") < text.index("claimed, runs") < text.index("/1 done")


async def test_what_others_wrote_is_shown_as_it_is(home: Home, stream: str, launcher: Api) -> None:
    home.ok("broker", "stream", "add", stream, "--machine", "m", "--run", "/opt/app/run", "--attempts", "1")
    home.ok("broker", "push", stream, "--count", "1", "--name", "[b]bold", "--param", "k=[/b] :fire:")
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    guest = launcher.bearing((await claim(launcher, dispatched["ticket"])).json["lease"])
    sentence = "[/tmp/x] [error] bad :fire:"
    await guest.ok("POST", "/v1/lease/fail", json={"code": "program_failed", "sentence": sentence, "exit_code": 3})

    assert sentence in home.ok("broker", "status", stream)
    item = home.ok("broker", "status", f"{stream}/1")
    assert sentence in item
    assert "[b]bold" in item
    assert "k=[/b] :fire:" in item
    results = home.ok("broker", "results", stream)
    assert sentence in results
    assert "[b]bold" in results
    watched = home.run("broker", "watch", stream)
    assert (watched.status, sentence in watched.out) == (1, True)


async def test_a_result_that_is_gone_keeps_no_other_from_being_downloaded(
    home: Home, broker: Broker, stream: str, launcher: Api, tmp_path: Path
) -> None:
    home.ok("broker", "push", stream, "--count", "2")
    for content in (b"first", b"second"):
        await run_item(launcher, content)
    results = json.loads(home.ok("broker", "results", stream, "-o", "json"))
    [url] = [line["outputs"][0]["url"] for line in results if line["item"].endswith("/1")]
    answer = await launcher.bearing(broker.token()).call("DELETE", url)
    assert answer.status == 204

    said = home.run("broker", "results", stream, "--download", str(tmp_path))

    assert said.status == 1
    assert "1 files downloaded to" in said.err
    assert f"1 files were not downloaded\n  alice/{stream}/1, out.txt: there is no file" in said.err
    assert (tmp_path / "2/out.txt").read_bytes() == b"second"


async def test_results_are_followed_and_downloaded_until_all_is_settled(
    home: Home, stream: str, launcher: Api, tmp_path: Path
) -> None:
    home.ok("broker", "push", stream, "--count", "2", "--param", "k==1+1")
    await run_item(launcher, b"first")
    log = tmp_path / "log"
    following = ("broker", "results", stream, "--follow", "-o", "csv", "--download", str(tmp_path / "out"))
    with home.running(log, *following) as follower:
        wait_until(lambda: "out.txt" in log.read_text(), "the first result is told")
        assert follower.poll() is None
        await run_item(launcher, b"second")
        wait_until(lambda: follower.poll() is not None, "it ends by itself")

    assert follower.returncode == 0
    text = log.read_text()
    assert f"2 files downloaded to {tmp_path}/out" in text
    rows = list(csv.DictReader(line for line in text.splitlines() if "," in line and "verified" not in line))
    assert [(row["item"], row["state"], row["size_bytes"]) for row in rows] == [
        (f"alice/{stream}/1", "done", "5"),
        (f"alice/{stream}/2", "done", "6"),
    ]
    assert json.loads(rows[0]["params"]) == {"k": "=1+1"}
    assert [(tmp_path / f"out/{number}/out.txt").read_bytes() for number in (1, 2)] == [b"first", b"second"]
    endless = home.run("broker", "results", stream, "--follow", "-o", "json")
    assert (endless.status, "-o jsonl" in endless.err) == (2, True)


def test_a_stream_whose_name_is_a_number_is_found_by_its_full_name(home: Home, broker: Broker) -> None:
    home.ok("broker", "stream", "add", "2024", "--machine", "m", "--run", "/opt/app/run")

    for name in ("2024", "alice/2024"):
        assert "alice/2024 on machine m, 0 items" in home.ok("broker", "status", name)
    neither = home.run("broker", "status", "alice/2025")
    assert (neither.status, "there is no stream alice/alice" in neither.err) == (4, True)


def test_items_are_pushed_from_lines_with_params_and_once_for_a_key(home: Home, stream: str) -> None:
    lines = 'https://host.example/a.txt\n{"name": "second", "params": {"k": "own"}}\n'
    push = ("broker", "push", stream, "--from", "-", "--param", "k=v", "--param", "seed={1..2}", "--key", "once")

    assert home.ok(*push, stdin=lines) == f"2 items pushed: alice/{stream}/1 to alice/{stream}/2\n"
    home.ok(*push, stdin=lines)

    home.ok("broker", "push", stream, "--count", "1201")
    counted = home.ok("broker", "status", stream)
    assert f"alice/{stream} on machine m, 1203 items" in counted
    assert "k=own, seed=2" in home.ok("broker", "status", f"{stream}/2")


def test_a_file_goes_up_and_comes_down(home: Home, broker: Broker, tmp_path: Path) -> None:
    source, target = tmp_path / "a b.txt", tmp_path / "back"
    source.write_bytes(IMAGE)

    url = home.ok("broker", "file", "put", str(source), "in/a b.txt").strip()
    home.ok("broker", "file", "get", url, str(target))

    assert url == "file:alice/in/a b.txt"
    assert target.read_bytes() == IMAGE
    again = home.run("broker", "file", "get", url, str(target))
    assert (again.status, again.err) == (1, f"broker: {target} exists already: add --force to replace it\n")


@pytest.mark.parametrize(
    ("command", "status", "sentence"),
    [
        (("status", "nothing"), 4, "there is no stream alice/nothing: add it with `broker stream add`"),
        (("status", "bad name"), 2, "is no name of a stream"),
        (("console", "nothing/1"), 4, "there is no stream alice/nothing"),
        (("push", "nothing", "--count", "1"), 4, "there is no stream alice/nothing"),
        (("push", "nothing"), 2, "there is nothing to push"),
        (("push", "nothing", "/no/such/file"), 2, "neither a file here nor a URL"),
        (("stream", "add", "x", "--machine", "none", "--run", "x"), 4, "there is no machine alice/none"),
        (
            ("stream", "add", "x", "--machine", "m", "--run", "x", "--run-limit", "5"),
            2,
            "limits.run: '5' is not what belongs here; write a duration like 90s",
        ),
        (("stream", "add", "x", "--machine", "m", "--run", "x", "--attempts", "0"), 2, "retry.attempts: 0 attempts"),
        (("machine", "add", "x", "/no/such.xml"), 1, "/no/such.xml: No such file or directory"),
    ],
)
def test_a_refusal_is_one_sentence_that_says_what_to_do(
    home: Home, broker: Broker, command: tuple[str, ...], status: int, sentence: str
) -> None:
    said = home.run("broker", *command)

    assert said.status == status, said
    assert sentence in " ".join(said.err.replace("│", " ").split())
    assert "Traceback" not in said.err


def test_a_wrong_token_no_broker_and_no_login_are_told_apart(home: Home, broker: Broker, tmp_path: Path) -> None:
    wrong = Typed(home.folder, {"BEARER_TOKEN": "wrong"}).run("broker", "whoami")
    assert wrong.status == 4
    assert "the token is not accepted" in wrong.err
    elsewhere = f"http://127.0.0.1:{free_port()}"
    away = Typed(home.folder, {"VMBROKER_URL": elsewhere, "BEARER_TOKEN": "given"}).run("broker", "whoami")
    assert away.status == 3
    assert "cannot be reached" in away.err
    foreign = Typed(home.folder, {"VMBROKER_URL": elsewhere}).run("broker", "whoami")
    assert foreign.status == 2
    assert f"there is no token for {elsewhere}: set BEARER_TOKEN_FILE" in foreign.err
    cut = Typed(home.folder, {"BEARER_TOKEN": "one\ntwo"}).run("broker", "whoami")
    assert (cut.status, "Traceback" in cut.err) == (2, False)
    nobody = Typed(tmp_path).run("broker", "whoami")
    assert nobody.status == 2
    assert "start one on this machine with `broker serve`" in nobody.err


def test_beyond_loopback_the_broker_refuses_to_listen_without_tls(home: Home) -> None:
    said = home.run("broker", "serve", "--listen", "0.0.0.0:0")

    assert said.status == 2
    assert "refusing to listen on 0.0.0.0:0 without TLS" in said.err
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        said = home.run("broker", "serve", "--host", host)
        assert said.status == 2
        assert "without TLS, since tokens would cross the network in the clear: give --tls-cert" in said.err
    assert "--tls-cert" in said.err


def test_a_second_broker_on_one_folder_or_port_is_refused_in_one_sentence(
    home: Home, broker: Broker, tmp_path: Path
) -> None:
    same_folder = home.run("broker", "serve", "--listen", "127.0.0.1:0")
    assert same_folder.status == 1
    assert "is in use by the broker" in same_folder.err
    same_port = Home(tmp_path).run("broker", "serve", "--listen", f"127.0.0.1:{broker.port}")
    assert same_port.status == 1
    assert "Address already in use; choose another --listen" in same_port.err
    for said in (same_folder, same_port):
        assert "Traceback" not in said.err


def test_a_broker_stops_at_sigterm_and_leaves_no_store_and_tells_no_token(tmp_path: Path) -> None:
    broker = Broker(Home(tmp_path), free_port())
    with broker.serving() as process:
        store_pid = broker.store_pid()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0

    assert not Path(f"/proc/{store_pid}").exists()
    login = tmp_path / "config/vmbroker/login.json"
    assert login.stat().st_mode & 0o777 == 0o600
    assert json.loads(login.read_text())["token"] not in broker.log.read_text()


def test_tls_is_served_with_the_certificate_that_was_given(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    home = Typed(tmp_path)
    broker = Broker(home, free_port(), ("--tls-cert", str(cert), "--tls-key", str(key)))
    with broker.serving():
        untrusting = home.run("broker", "whoami")
        trusting = Typed(tmp_path, {"SSL_CERT_FILE": str(cert)}).ok("broker", "whoami")

    assert untrusting.status == 3
    assert "certificate" in untrusting.err
    assert f"https://127.0.0.1:{broker.port}" in trusting


def test_check_config_shows_the_settings_or_every_fault(tmp_path: Path) -> None:
    assert "listen = 127.0.0.1:8642" in Typed(tmp_path).ok("broker", "check-config")
    wrong = Typed(tmp_path, {"VMBROKER_BROKER_LISTEN": "x", "VMBROKER_BROKER_USER": "a b"}).run(
        "broker", "check-config"
    )
    assert wrong.status == 2
    assert "listen: 'x' is no address" in wrong.err
    assert "user: 'a b' is no name" in wrong.err

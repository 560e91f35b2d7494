"""Logging in and out, tokens and sites, as people type it."""

import json
from pathlib import Path

import pytest

from tests.support.grid import Broker, Home
from tests.support.typed import Typed


@pytest.fixture
def operator(home: Home) -> Typed:
    return Typed(home.folder)


@pytest.fixture
def desk(broker: Broker, tmp_path: Path) -> Typed:
    """Another person's home."""
    return Typed(tmp_path)


def log_in(operator: Typed, broker: Broker, desk: Typed, user: str = "bob", *more: str) -> dict[str, str]:
    code = operator.ok("broker", "user", "add", user, *more).strip()
    desk.ok("broker", "login", broker.url, stdin=f"{code}\n")
    found: dict[str, str] = json.loads((desk.folder / "config/vmbroker/login.json").read_text())
    return found


def test_who_was_let_in_logs_in_works_and_logs_out(operator: Typed, broker: Broker, desk: Typed) -> None:
    kept = log_in(operator, broker, desk)

    file = desk.folder / "config/vmbroker/login.json"
    assert file.stat().st_mode & 0o777 == 0o600
    said = desk.ok("broker", "whoami")
    assert "bob" in said
    assert "renewed until" in said
    assert desk.ok("broker", "stream", "list").startswith("no streams yet")
    listed = desk.ok("broker", "token", "list")
    assert "login" in listed
    assert kept["token"] not in listed

    desk.ok("broker", "logout")
    assert not file.exists()
    assert desk.run("broker", "whoami").status == 2
    again = desk.run("broker", "logout")
    assert (again.status, "nobody is logged in" in again.err) == (2, True)
    file.write_text(json.dumps(kept))
    refused = desk.run("broker", "whoami")
    assert refused.status == 4
    assert "log in again" in refused.err
    desk.ok("broker", "logout")
    assert not file.exists()


def test_a_token_that_ended_is_renewed_without_a_word(operator: Typed, broker: Broker, desk: Typed) -> None:
    kept = log_in(operator, broker, desk)
    file = desk.folder / "config/vmbroker/login.json"
    for stale in ({"ends_at": "2020-01-01T00:00:00Z"}, {"token": "refused.by.everybody"}):
        file.write_text(json.dumps({**kept, **stale}))
        file.chmod(0o600)

        assert desk.run("broker", "whoami").err == ""
        assert json.loads(file.read_text())["token"] not in {kept["token"], "refused.by.everybody"}


def test_a_code_is_good_once_and_is_never_in_a_command_line(operator: Typed, broker: Broker, desk: Typed) -> None:
    code = operator.ok("broker", "user", "add", "bob").strip()
    desk.ok("broker", "login", broker.url, stdin=code.lower())

    twice = operator.run("broker", "login", broker.url, stdin=code)
    assert twice.status == 4
    assert "somebody else logged in with this code" in twice.err
    assert desk.run("broker", "whoami").status == 4
    for wrong in ("ABCDE", ""):
        refused = desk.run("broker", "login", broker.url, stdin=wrong)
        assert refused.status in {2, 4}
        assert "one-time code" in refused.err
    assert desk.run("broker", "login", broker.url, code).status == 2


@pytest.mark.parametrize("url", ["http://broker.example:8642", "broker.example", "ftp://x"])
def test_nobody_logs_in_where_a_code_would_cross_the_network_in_the_clear(desk: Typed, url: str) -> None:
    refused = desk.run("broker", "login", url, stdin="3F7QK-9XWBD-RT2HM-8CNZP-4YV6J")

    assert refused.status == 2
    assert "write https://" in refused.err


def test_a_token_for_a_program_is_narrow_and_revoked_by_its_id(operator: Typed, broker: Broker, desk: Typed) -> None:
    log_in(operator, broker, desk)
    words = ("--name", "nightly", "--scope", "queue.read:/bob", "--life", "1h")
    made = desk.run("broker", "token", "create", *words)
    assert made.out.count("\n") == 1
    program = Typed(desk.folder / "elsewhere", {"VMBROKER_URL": broker.url, "BEARER_TOKEN": made.out.strip()})
    assert program.ok("broker", "stream", "list").startswith("no streams yet")
    assert program.run("broker", "stream", "add", "x", "--machine", "m", "--run", "/x").status == 4

    [line] = [line for line in desk.ok("broker", "token", "list").splitlines() if "nightly" in line]
    desk.ok("broker", "token", "revoke", line.split()[0])
    refused = program.run("broker", "whoami")
    assert (refused.status, "revoked" in refused.err) == (4, True)
    for option, value in (("life", "soon"), ("life", "1000d"), ("scope", "queue.read:/alice"), ("scope", "x")):
        assert desk.run("broker", "token", "create", f"--{option}", value).status in {2, 4}, value


def test_a_site_gets_a_file_that_its_launchers_find(operator: Typed, broker: Broker, desk: Typed) -> None:
    out = desk.folder / "config/vmbroker/launcher.json"
    words = ("--users", "bob,carol", "--label", "trusted", "--most-dispatches", "5", "--out", str(out))
    told = operator.run("broker", "site", "add", "renci", *words)
    assert told.status == 0, told.err
    assert out.stat().st_mode & 0o777 == 0o600
    assert json.loads(out.read_text())["url"] == broker.url
    launcher = Typed(desk.folder, {"VMBROKER_URL": broker.url, "BEARER_TOKEN": json.loads(out.read_text())["token"]})
    assert "queue.dispatch:/carol" in launcher.ok("broker", "whoami")
    listed = operator.ok("broker", "site", "list")
    assert "label trusted" in listed
    assert "5 dispatches at once" in listed

    operator.ok("broker", "site", "rm", "renci")
    assert launcher.run("broker", "whoami").status == 4
    assert operator.run("broker", "site", "add", "renci", "--users", ",").status == 2


def test_only_an_operator_lets_people_and_sites_in(
    operator: Typed, broker: Broker, desk: Typed, tmp_path: Path
) -> None:
    log_in(operator, broker, desk, "dave")
    for words in (("user", "add", "x"), ("site", "add", "x", "--users", "*"), ("user", "logout", "alice")):
        assert desk.run("broker", *words).status == 4, words

    carol = Typed(tmp_path / "carol")
    log_in(operator, broker, carol, "carol", "--operator")
    assert "revoked 1 logins" in carol.run("broker", "user", "logout", "dave").err
    assert desk.run("broker", "whoami").status == 4


def test_keys_are_rotated_under_a_running_broker(operator: Typed, broker: Broker, desk: Typed) -> None:
    kept = log_in(operator, broker, desk)
    before = operator.ok("broker", "key", "list")
    operator.ok("broker", "key", "rotate")
    after = operator.ok("broker", "key", "list")

    assert after.count("signing") == 2
    assert "signs from" in after
    current = next(line.split()[0] for line in after.splitlines() if "signing" in line and "makes" in line)
    in_use = operator.run("broker", "key", "drop", current)
    assert (in_use.status, "is in use" in in_use.err) == (1, True)
    old_mac = next(line.split()[0] for line in before.splitlines() if " mac " in line)
    assert desk.ok("broker", "whoami")
    operator.ok("broker", "key", "drop", old_mac)
    # The login's secret was derived with the key that is gone now.
    (desk.folder / "config/vmbroker/login.json").write_text(json.dumps({**kept, "token": "refused.by.everybody"}))
    assert desk.run("broker", "whoami").status == 4
    assert operator.run("broker", "key", "list", "--data", str(desk.folder)).status == 1

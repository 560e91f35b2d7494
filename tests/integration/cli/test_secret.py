"""`broker secret add | list | rm`, by file, by stdin and at a terminal, against a broker with TLS."""

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import certificates
from tests.support.grid import Broker, with_tls
from tests.support.launching import short_folder
from tests.support.typed import Typed
from tests.support.waiting import wait_until

AUTHORITY = certificates.authority()
PROXY = certificates.proxy(certificates.person(AUTHORITY, "alice")).as_proxy_file
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with short_folder("vs-") as folder:
        broker = with_tls(Typed(folder), AUTHORITY, certificates.server(AUTHORITY))
        with broker.serving():
            yield broker


def test_a_secret_is_added_from_a_file_listed_replaced_and_removed(broker: Broker, tmp_path: Path) -> None:
    file = tmp_path / "x509up_u1000"
    file.write_bytes(PROXY)
    add = ("broker", "secret", "add", "proxy", "--file", str(file), "--kind", "x509_proxy")
    assert "alice/proxy: version 1, x509_proxy" in broker.home.ok(*add)
    assert "alice/proxy: version 2, x509_proxy" in broker.home.ok(*add)
    listed = broker.home.ok("broker", "secret", "list")
    assert "alice/proxy" in listed
    assert "x509_proxy" in listed
    key = PROXY.decode().partition("PRIVATE KEY-----\n")[2].splitlines()[0]
    assert key not in listed
    assert "alice/proxy is removed" in broker.home.ok("broker", "secret", "rm", "proxy")
    assert "no secrets yet" in broker.home.ok("broker", "secret", "list")
    gone = broker.home.run("broker", "secret", "rm", "proxy")
    assert (gone.status, gone.err.strip()) == (
        4,
        "broker: there is no secret alice/proxy: add it with `broker secret add proxy`",
    )


def test_a_bearer_token_comes_by_stdin_with_or_without_its_lines_end(broker: Broker) -> None:
    for text in (TOKEN, f"{TOKEN}\n"):
        said = broker.home.ok("broker", "secret", "add", "token", "--kind", "bearer_token", stdin=text)
        assert f"bearer_token, {len(TOKEN)} B; kept sealed" in said


def test_at_a_terminal_a_secret_is_asked_for_and_not_shown(broker: Broker) -> None:
    ours, its = pty.openpty()
    command = [str(broker.home.program("broker")), "secret", "add", "licence"]
    shown = b""

    def said(text: bytes) -> bool:
        nonlocal shown
        shown += os.read(ours, 4_096)
        return text in shown

    with subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=broker.home.environment(), start_new_session=True
    ) as process:
        try:
            wait_until(lambda: said(b"(not shown): "), "it asks", timeout_s=30)
            os.write(ours, b"a licence key of alice's\n")
            wait_until(lambda: said(b"kept sealed"), "it is added", timeout_s=30)
        finally:
            os.close(its)
            process.wait(30)
    os.close(ours)
    assert process.returncode == 0
    assert b"alice/licence: version" in shown
    assert b"a licence key" not in shown


def test_a_value_that_is_too_long_is_not_sent(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 65_537)
    said = broker.home.run("broker", "secret", "add", "large", "--file", str(tmp_path / "large"))
    assert said.status == 2
    assert "has more than 65536 bytes: no secret is that long" in said.err


def test_a_stream_names_secrets_by_flag_and_by_file_and_shows_them_by_name(broker: Broker, tmp_path: Path) -> None:
    broker.home.ok("broker", "secret", "add", "named", stdin="a licence key of alice's")
    (tmp_path / "disk.img").write_bytes(b"x" * 1_048_576)
    domain = Path(__file__).parents[2] / "support/domains/minimal.xml"
    broker.home.ok("broker", "machine", "add", "m", str(domain), "--disk", f"vda={tmp_path / 'disk.img'}")
    flags = ("--machine", "m", "--run", "true", "--secret", "named:bearer_token", "--trust", "renci", "--trust", "unl")
    broker.home.ok("broker", "stream", "add", "needy", *flags)
    written = broker.home.ok("broker", "stream", "show", "needy", "-o", "toml")
    assert 'secrets = ["named:bearer_token"]' in written
    assert 'trust = ["renci", "unl"]' in written
    assert "revision 1" in broker.home.ok("broker", "stream", "add", "needy", "-f", "-", stdin=written)
    refused = broker.home.run("broker", "stream", "add", "needy", "-f", "-", "--secret", "none", stdin=written)
    assert refused.status == 4
    assert "secrets: there is no secret alice/none; `broker secret add none` first" in refused.err

"""Where a client looks for its ticket when there is no port, with what the launcher really writes there."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from broker.wire.port import CREDENTIAL_NAME, FW_CFG_NAME, MAX_LINE_BYTES, Welcome
from guest import cli
from guest.exits import Exit
from guest.steps import handed
from guest.steps.facts import uptime_s
from guest.steps.handed import HandedOver, aged, handed_over
from launcher.guest_disk import seed_disk
from launcher.hypervisor.account import Account
from launcher.node.handing_over import hand_over

WELCOME = Welcome(ticket="vt1.x", broker="https://b", now="2026-01-01T00:00:00+00:00", entropy=b"e" * 32, ca="PEM")
CONTENT = msgspec.json.encode(WELCOME)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A guest's places in a folder, all empty."""
    for name in ("run", "fw_cfg", "block", "dev"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(handed, "SYSTEM_CREDENTIALS", tmp_path / "run")
    monkeypatch.setattr(handed, "FW_CFG_ENTRIES", tmp_path / "fw_cfg")
    monkeypatch.setattr(handed, "DISKS", tmp_path / "block")
    monkeypatch.setattr(handed, "DEVICES", tmp_path / "dev")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return tmp_path


def add_disk(places: Path, name: str, content: bytes) -> None:
    (places / "block" / name).mkdir()
    (places / "dev" / name).write_bytes(content)


def test_a_credential_comes_before_fw_cfg_and_that_before_the_seed(places: Path) -> None:
    add_disk(places, "vdc", seed_disk(CONTENT))
    assert handed_over() == HandedOver(WELCOME, "the seed disk")
    entry = places / "fw_cfg" / FW_CFG_NAME
    entry.mkdir(parents=True)
    (entry / "raw").write_bytes(CONTENT)
    assert handed_over() == HandedOver(WELCOME, "fw_cfg")
    (places / "run" / CREDENTIAL_NAME).write_bytes(CONTENT)
    assert handed_over() == HandedOver(WELCOME, "a credential")


def test_a_service_with_credentials_of_its_own_finds_it_there(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(places / "own"))
    (places / "own").mkdir()
    (places / "own" / CREDENTIAL_NAME).write_bytes(CONTENT)
    assert handed_over() == HandedOver(WELCOME, "a credential")


@pytest.mark.parametrize(
    "disk",
    [
        b"",
        bytes(65_536),
        seed_disk(CONTENT).replace(b"cidata", b"CONFIG"),
        seed_disk(CONTENT)[: 17 * 2048],
        seed_disk(b"no welcome"),
        seed_disk(b"x" * (MAX_LINE_BYTES + 1)),
    ],
    ids=["empty", "zeros", "another-label", "cut-off", "another-text", "too-long"],
)
def test_a_disk_that_is_no_seed_is_passed_over(places: Path, disk: bytes) -> None:
    add_disk(places, "vdb", disk)
    assert handed_over() is None
    add_disk(places, "vdc", seed_disk(CONTENT))
    assert handed_over() == HandedOver(WELCOME, "the seed disk")


def test_a_long_welcome_is_read_whole(places: Path) -> None:
    long = msgspec.structs.replace(WELCOME, ca="P" * 50_000)
    add_disk(places, "vdb", seed_disk(msgspec.json.encode(long)))
    assert handed_over() == HandedOver(long, "the seed disk")


def test_the_time_is_moved_on_by_the_vms_life() -> None:
    written = datetime(2026, 1, 1, tzinfo=UTC)
    now = datetime.fromisoformat(aged(WELCOME).now)
    assert timedelta(seconds=uptime_s() - 1) < now - written <= timedelta(seconds=uptime_s())


def test_without_a_port_the_client_works_by_what_was_handed_over_and_without_that_it_says_so(
    places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worked: list[Welcome] = []

    def work(welcome: Welcome, *_: object) -> Exit:
        worked.append(welcome)
        return Exit.COMPLETED

    monkeypatch.setattr(cli, "_work", work)
    for name in ("PORT_SOON_S", "PORT_TIMEOUT_S"):
        monkeypatch.setattr(cli, name, 0.0)
    assert cli._run(cli.Options(stays=True)) is Exit.NO_PORT
    assert "no virtio port" in capsys.readouterr().out
    add_disk(places, "vdb", seed_disk(CONTENT))
    assert cli._run(cli.Options(stays=True)) is Exit.COMPLETED
    assert [welcome.ticket for welcome in worked] == [WELCOME.ticket]
    assert "the ticket came by the seed disk" in capsys.readouterr().out


def test_a_port_in_the_hands_of_another_client_is_no_reason_to_work_beside_it(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_disk(places, "vdb", seed_disk(CONTENT))
    monkeypatch.setattr(cli, "find_port", lambda _: places / "busy")
    assert cli._run(cli.Options(stays=True)) is Exit.NO_PORT


def test_what_is_handed_over_is_for_qemus_account_alone(tmp_path: Path) -> None:
    account = Account.choose()
    files = hand_over(tmp_path, WELCOME, account)
    assert files.ticket.read_bytes() == CONTENT
    for path in (files.ticket, files.seed):
        status = path.stat()
        assert (status.st_mode & 0o777, status.st_uid) == (0o600, account.uid)
    with pytest.raises(FileExistsError):
        hand_over(tmp_path, WELCOME, account)

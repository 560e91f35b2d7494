from pathlib import Path

import pytest

from broker.wire.leases import MAX_LOG_BYTES
from guest.cli import Options, read_options
from guest.exits import MEANINGS, Exit
from guest.steps.claim import claim_key
from guest.steps.clock import set_clock
from guest.steps.facts import guest_os
from guest.steps.program import MAX_CONSOLE_COPY_BYTES, Tail
from guest.steps.workspace import Workspace
from tests.unit.guest.items import work


def test_each_ticket_has_one_key_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "vmbroker"
    key = claim_key(folder, "vt1.a")
    assert claim_key(folder, "vt1.a") == key
    assert claim_key(folder, "vt1.b") != key
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_key_half_written_before_a_crash_is_made_anew(tmp_path: Path) -> None:
    key = claim_key(tmp_path, "vt1.a")
    (path,) = tmp_path.iterdir()
    path.rename(path.with_suffix(".new"))
    assert claim_key(tmp_path, "vt1.a") != key


def test_a_clock_that_is_right_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_767_225_600.4)
    assert set_clock("2026-01-01T00:00:00Z") is None


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid isoformat"):
        set_clock("soon")


def test_the_system_is_named_as_it_names_itself(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('NAME=Debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    assert guest_os(release) == "Debian GNU/Linux 12 (bookworm)"
    assert guest_os(tmp_path / "none").startswith("Linux ")


def test_the_tail_keeps_the_end_and_the_last_complaint() -> None:
    copied: list[bytes] = []
    tail = Tail(copied.append)
    tail.add(b"x" * MAX_LOG_BYTES, is_error=False)
    tail.add(b"first\nwhy it failed\n\n", is_error=True)
    tail.add(b"bye", is_error=False)
    assert len(tail.content()) == MAX_LOG_BYTES
    assert tail.content().endswith(b"why it failed\n\nbye")
    assert tail.last_error_line() == "why it failed"


def test_a_program_that_writes_without_end_does_not_fill_the_console() -> None:
    copied: list[bytes] = []
    tail = Tail(copied.append)
    for _ in range(100):
        tail.add(b"x" * 65_536, is_error=False)
    assert sum(map(len, copied)) < MAX_CONSOLE_COPY_BYTES + 200
    assert b"not copied to the console" in copied[-1]


def test_a_workspace_is_made_where_there_is_a_place_and_leaves_nothing(tmp_path: Path) -> None:
    workspace = Workspace.make((tmp_path / "none", tmp_path))
    workspace.write_features(work())
    assert workspace.root.parent == tmp_path
    assert int((workspace.machine_features / "total_cpu").read_text()) >= 1
    assert (workspace.job_features / "wall_limit_secs").read_text() == "60"
    workspace.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "a\0b"])
def test_an_input_stays_in_its_folder(name: str) -> None:
    assert Workspace(Path("/w")).input_path(name) == Path("/w/work/input")
    assert Workspace(Path("/w")).input_path("my file.txt") == Path("/w/work/my file.txt")


def test_every_exit_status_is_explained_and_none_is_the_shells() -> None:
    assert MEANINGS.keys() == set(Exit)
    assert all(code < 126 and code != 1 for code in Exit)


def test_without_arguments_it_works_in_a_vm_and_switches_it_off() -> None:
    assert read_options([]) == Options(stays=False, port=None, run_folder=Path("/run/vmbroker"))
    assert read_options(["--stay", "--port", "/dev/x", "--run-folder", "/r"]) == Options(
        True, Path("/dev/x"), Path("/r")
    )


def test_a_wrong_call_has_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_options(["--nonsense"])
    assert caught.value.code == Exit.USAGE
    assert "--nonsense" in capsys.readouterr().err


def test_the_reference_lists_every_exit_status_as_it_is() -> None:
    page = Path(__file__).parents[3].joinpath("docs/reference/guest-exit-codes.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "`" in line]
    assert rows == [f"| {code.value} | `{code.name}` | {meaning} |" for code, meaning in MEANINGS.items()]

import os
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from launcher.node.console import KEPT_BYTES, TRIM_BYTES, Console

LIMIT_S = 10
SECRET = b"secret" * TRIM_BYTES


@pytest.fixture
def console(tmp_path: Path) -> Console:
    return Console(tmp_path / "console.log")


def use(console: Console) -> bytes:
    """Trim and read in a thread, which a FIFO would keep for ever."""
    tails: list[bytes] = []

    def trim_and_read() -> None:
        console.trim()
        tails.append(console.tail(100))

    thread = threading.Thread(target=trim_and_read, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert tails, "the console blocks or fails"
    return tails[0]


def test_a_log_that_a_guest_floods_stays_small_and_its_tail_whole(tmp_path: Path, console: Console) -> None:
    path = tmp_path / "console.log"
    console.trim()
    with path.open("ab") as guest:
        guest.write(b"x" * (TRIM_BYTES + 1) + b"before ")
        guest.flush()
        console.trim()
        assert path.stat().st_size == 0
        guest.write(b"after")
        guest.flush()
    assert path.stat().st_size == len(b"after")
    assert console.tail(12) == b"before after"
    assert len(console.tail(1 << 30)) == KEPT_BYTES + len(b"after")
    assert [file.name for file in tmp_path.iterdir()] == ["console.log"]


def test_a_guest_that_wrote_nothing_has_an_empty_tail(console: Console) -> None:
    with capture_logs() as logged:
        assert use(console) == b""
    assert logged == []


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_another_file_under_the_logs_name_is_neither_told_nor_cut(
    tmp_path: Path, console: Console, link: object
) -> None:
    assert callable(link)
    secret = tmp_path / "shadow"
    secret.write_bytes(SECRET)
    link(secret, tmp_path / "console.log")
    with capture_logs() as logged:
        assert use(console) == b""
    assert secret.stat().st_size == len(SECRET)
    assert [line["event"] for line in logged] == ["console_log_unusable"]


def test_a_fifo_or_a_folder_under_the_logs_name_holds_nobody_up(tmp_path: Path, console: Console) -> None:
    path = tmp_path / "console.log"
    for make in (os.mkfifo, os.mkdir):
        make(path)
        assert use(console) == b""
        path.rename(tmp_path / f"was-{make.__name__}")


def test_what_was_kept_is_told_though_the_log_became_something_else(tmp_path: Path, console: Console) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"x" * TRIM_BYTES + b" the end")
    console.trim()
    path.unlink()
    os.mkfifo(path)
    assert use(console).endswith(b" the end")


def test_a_log_that_cannot_be_emptied_is_still_told(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "ftruncate", refuse)
    (tmp_path / "console.log").write_bytes(b"x" * TRIM_BYTES + b" the end")
    with capture_logs() as logged:
        assert use(console).endswith(b" the end")
    assert [line["reason"] for line in logged] == ["No space left on device"]

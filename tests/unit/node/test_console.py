from pathlib import Path

from launcher.node.console import KEPT_BYTES, TRIM_BYTES, Console


def test_a_log_that_a_guest_floods_stays_small_and_its_tail_whole(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    console = Console(path)
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


def test_a_guest_that_wrote_nothing_has_an_empty_tail(tmp_path: Path) -> None:
    assert Console(tmp_path / "console.log").tail(100) == b""

from pathlib import Path

import msgspec

from bench.trace import Moment, What, read_lives

MS = 1_000_000


def line(what: What, at_ms: int, *, cpu_s: float = 0.0, written: int = 0, folder: int = 0) -> bytes:
    moment = Moment(
        what=what, dispatch="d", at_ns=at_ms * MS, cpu_s=cpu_s, written_bytes=written, run_folder_bytes=folder
    )
    return msgspec.json.encode(moment) + b"\n"


def test_the_launchers_own_work_leaves_out_libvirt_and_the_guest(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_bytes(
        line("taken", 0, cpu_s=1.0)
        + line("create", 50)
        + line("created", 300)
        + line("stopped", 9_000)
        + line("destroy", 9_001)
        + line("destroyed", 10_001)
        + line("end", 10_005)
        + line("ended", 10_009, cpu_s=1.06)
    )

    life = read_lives(trace)["d"]

    assert (life.before_ms(), life.create_ms(), life.after_ms()) == (50, 250, 5)
    assert round(life.cpu_ms()) == 60
    assert life.is_over


def test_what_was_written_for_a_vm_is_the_larger_of_two_counts(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for folder, expected in ((400_000, 400_000), (100, 150_000)):
        trace.write_bytes(line("taken", 0, written=50_000) + line("create", 1, written=200_000, folder=folder))

        assert read_lives(trace)["d"].written_bytes() == expected


def test_a_line_that_is_still_being_written_is_left_for_the_next_time(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_bytes(line("taken", 0) + line("create", 1)[:-9])

    assert set(read_lives(trace)["d"].moments) == {"taken"}

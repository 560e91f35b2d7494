import io

import msgspec
import pytest
from rich.console import Console

from broker.cli.launchers import print_jobs, print_launchers
from broker.wire.dispatches import Room
from broker.wire.jobs import BatchKind, JobsReport, JobsView
from broker.wire.kinds import in_full
from broker.wire.launchers import Health, LauncherReport, LauncherView, ListedState
from broker.wire.states import Accelerator, HealthCode, HealthState

ROOM = Room(vcpus=64, memory_mib=262_144, disk_mib=1_000_000, accelerator=Accelerator.KVM, time_left_ms=86_400_000)
VIEW = LauncherView(
    launcher="cluster-a/node-0017.rack12",
    node="node-0017.cluster-a.example.org",
    heard_at="2026-01-01T00:00:00.000Z",
    is_gone=False,
    report=LauncherReport(node="node-0017.cluster-a.example.org", total=ROOM, free=ROOM, vms=12),
)
SICK = Health(state=HealthState.BACKING_OFF, code=HealthCode.DISK_FULL, sentence="/scratch is full")


def _printed(width: int, *views: LauncherView) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    print_launchers(console, list(views))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_names_and_states_are_whole_on_a_terminal_of_80_columns() -> None:
    head, row = _printed(80, VIEW)

    assert head.split() == ["launcher", "state", "vms", "free", "vcpus", "memory", "heard"]
    assert row.split()[:4] == ["cluster-a/node-0017.rack12", "healthy", "12", "64"]
    assert max(len(head), len(row)) <= 80


def test_a_wide_terminal_shows_all() -> None:
    head, row = _printed(200, VIEW)

    assert "accelerator" in head
    assert "node-0017.cluster-a.example.org" in row


def test_names_too_long_for_any_table_have_lines_of_their_own() -> None:
    name = f"cluster-a/{'n' * 70}"

    first, second = _printed(80, msgspec.structs.replace(VIEW, launcher=name))

    assert first == f"{name}: healthy"
    assert second.startswith("  vms 12, free vcpus 64, memory 256.0 GiB, heard ")


def test_what_a_launcher_told_last_and_whom_to_write_to_is_shown_of_one_that_is_gone() -> None:
    report = msgspec.structs.replace(VIEW.report, health=SICK, contact="grid@site.example")

    told = " ".join(_printed(80, msgspec.structs.replace(VIEW, is_gone=True, report=report))[2:])

    assert told == (
        "cluster-a/node-0017.rack12: not heard since 2026-01-01T00:00:00.000Z; it was backing_off (disk_full): "
        "/scratch is full; contact: grid@site.example"
    )


@pytest.mark.parametrize("kind", [HealthState, HealthCode])
def test_a_word_that_a_later_launcher_says_is_kept(kind: type[HealthState] | type[HealthCode]) -> None:
    later = kind("on_fire")

    assert (later.value, str(later), msgspec.json.encode(later)) == ("on_fire", "on_fire", b'"on_fire"')
    assert later not in set(kind)
    with pytest.raises(ValueError, match="not a valid"):
        kind("\x1b[2J")


def test_every_state_of_a_node_can_be_asked_for() -> None:
    assert {*HealthState, "gone"} == set(ListedState)


def test_a_view_in_full_has_its_defaults_and_reads_back() -> None:
    view = in_full(VIEW)

    assert (view["is_gone"], view["report"]["health"]["state"], view["report"]["contact"]) == (False, "healthy", "")
    assert in_full(msgspec.structs.replace(VIEW, report=LauncherReport(node="n", total=ROOM)))["report"]["vms"] == 0
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(view)), LauncherView) == VIEW


def test_launcher_jobs_are_shown_below_with_the_batch_systems_own_words() -> None:
    report = JobsReport(
        kind=BatchKind.SLURM, place="hpc", queued=4, held=1, sentence="Slurm's reason is\x1b[31m Resources"
    )
    view = JobsView(jobs="site/vmb-0a1b2c3d", told_at="2026-01-01T00:00:00.000Z", report=report)
    console = Console(file=io.StringIO(), width=100, markup=False, emoji=False, highlight=False)
    print_jobs(console, [view])
    assert isinstance(console.file, io.StringIO)
    head, row, why = (line.rstrip() for line in console.file.getvalue().splitlines())
    assert head.split() == ["launcher", "jobs", "of", "in", "queued", "running", "held", "told"]
    assert row.split()[:6] == ["site/vmb-0a1b2c3d", "slurm,", "hpc", "4", "-", "1"]
    assert why.startswith("site/vmb-0a1b2c3d: Slurm's reason is")
    assert "\x1b" not in why


def test_launcher_jobs_get_lines_of_their_own_where_their_table_has_no_room() -> None:
    place = "submit-3@cluster.physics.university.example.org"
    report = JobsReport(kind=BatchKind.HTCONDOR, place=place, queued=400, running=3)
    view = JobsView(jobs="site/vmb-0a1b2c3d", told_at="2026-01-01T00:00:00.000Z", report=report)
    console = Console(file=io.StringIO(), width=60, markup=False, emoji=False, highlight=False)
    print_jobs(console, [view])
    assert isinstance(console.file, io.StringIO)
    whose, amounts = console.file.getvalue().splitlines()
    assert whose == f"launcher jobs of site/vmb-0a1b2c3d in htcondor, {place}"
    assert amounts.startswith("  queued 400, running 3, held -, told ")


def test_without_launcher_jobs_nothing_is_shown_of_them() -> None:
    console = Console(file=io.StringIO(), width=100)
    print_jobs(console, [])
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""

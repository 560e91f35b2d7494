"""The way of one item: three files in, three virtual machines, three results out."""

import re

import pytest

from tests.acceptance.conftest import Grid
from tests.support.grid import processes_naming

pytestmark = pytest.mark.vm


def test_each_of_three_files_comes_back_from_a_vm_of_its_own(grid: Grid) -> None:
    out = grid.folder / "out"
    said = grid.home.run("broker", "results", "copies", "--download", str(out))
    assert "sizes and digests verified" in said.err
    contents = sorted(path.read_text() for path in out.rglob("copy"))
    assert contents == ["work of a\n", "work of b\n", "work of c\n"]
    vms = {line["vm"]["dispatch"] for line in grid.broker.items("copies")}
    assert len(vms) == 3


def test_each_vm_has_one_verdict_and_it_is_the_brokers(grid: Grid) -> None:
    for line in grid.broker.items("copies"):
        assert line["vm"]["verdict"] == "completed"
        assert list(line["vm"]["phases"]) == ["preparing", "prepared", "booting", "started", "claimed", "ended"]
        assert (line.get("attempts", 0), line["boots"]) == (0, 1)


def test_the_program_ran_as_root_in_a_system_that_is_not_the_hosts(grid: Grid) -> None:
    assert "0" in grid.home.ok("broker", "logs", "copies/1", "--output").split()
    assert all(line["vm"]["facts"]["guest_os"] == "vmbroker's minimal guest" for line in grid.broker.items("copies"))


def test_each_vm_tells_the_xml_it_booted_with_and_the_node_it_was_on(grid: Grid) -> None:
    for line in grid.broker.items("copies"):
        xml = grid.home.ok("broker", "logs", line["item"], "--xml")
        assert f"<uuid>{line['vm']['dispatch']}</uuid>" in xml
        facts = {"launcher_version", "qemu", "libvirt", "kernel", "accelerator_reason", "bytes_in", "bytes_out"}
        assert facts <= line["vm"]["facts"].keys()


def test_nothing_of_a_vm_is_left_on_the_node_when_it_ended(grid: Grid) -> None:
    scratch = next((grid.folder / "n").glob("vmb-*"))
    assert [path for path in scratch.iterdir() if re.fullmatch(r"[0-9a-f]{8}", path.name)] == []
    assert [line for line in processes_naming(str(scratch)) if "qemu-system" in line] == []

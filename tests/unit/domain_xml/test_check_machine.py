from pathlib import Path

import pytest
from typer.testing import CliRunner

from launcher.commands import app
from launcher.hypervisor.firmware import read_firmwares
from tests.unit.domain_xml.cases import DATA
from tests.unit.domain_xml.hostile import HOSTILE, RED, machine

CLI = CliRunner()


def check(*arguments: str, stdin: bytes | None = None) -> tuple[int, list[str]]:
    ended = CLI.invoke(app, ["check-machine", *arguments], input=stdin)
    return ended.exit_code, ended.output.splitlines()


def test_every_golden_machine_is_accepted_in_one_line_each() -> None:
    files = sorted(str(file) for file in DATA.glob("*.in.xml"))
    assert check(*files) == (0, [f"{file}: accepted" for file in files])


def test_every_hostile_machine_is_refused_at_its_path_and_one_makes_the_status_fail() -> None:
    files = {hostile.name: str(RED / f"{hostile.name}.xml") for hostile in HOSTILE}
    status, lines = check("--disk", "vda", *files.values())
    assert status == 1
    for hostile, line in zip(HOSTILE, lines, strict=True):
        name, _, places = line.partition(": refused at ")
        assert name == files[hostile.name]
        assert hostile.path in places.split(", ")
    assert check("--disk", "vda", str(DATA / "minimal.in.xml"), files["kernel"])[0] == 1


def test_the_verdict_comes_first_then_each_refusal_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "m.xml"
    file.write_text(machine("<graphics type='vnc'/>", os="<kernel>/k</kernel>"))
    status, lines = check(str(file))
    assert status == 1
    assert lines[:5] == [
        f"{file}: refused at /domain/os/kernel",
        "",
        "refused: /domain/os/kernel",
        "  why: direct kernel boot reads a file of the host",
        "  what to do: install a boot loader in the disk image and remove the element",
    ]
    dropped = lines.index("dropped: a vm does not get this")
    assert lines[dropped + 1 : dropped + 3] == [
        "  nobody sits in front of a vm on a node",
        "    /domain/devices/graphics[1]",
    ]
    assert "set: ours takes its place" in lines[dropped:]


def test_the_diff_shows_our_change_and_nothing_else() -> None:
    status, lines = check(
        "--diff", "--accelerator", "tcg", "-", stdin=(DATA / "centos6-i440fx-ide.in.xml").read_bytes()
    )
    assert status == 0
    assert "-  <name>sl6-worker</name>" in lines
    assert '+      <source file="/RUN-FOLDER/hda.qcow2"/>' in lines
    assert '-    <graphics autoport="yes" listen="0.0.0.0" port="-1" type="vnc"/>' in lines
    # Attributes in another order, quotes and indentation are no change.
    assert '       <mac address="52:54:00:0c:a1:6e"/>' in lines


def test_the_diff_shows_the_client_and_the_seed() -> None:
    lines = check("--diff", str(DATA / "minimal.in.xml"))[1]
    for name in ("client.img", "seed.iso"):
        assert f'+      <source file="/RUN-FOLDER/{name}"/>' in lines


def test_the_diff_shows_the_firmware_that_fits_the_machines_variables(tmp_path: Path) -> None:
    variables = tmp_path / "vars.fd"
    fitting = read_firmwares()[0]
    with variables.open("wb") as file:
        file.truncate(fitting.variables_bytes)
    xml = str(DATA / "rhel9-uefi.in.xml")
    lines = check("--diff", "--nvram", str(variables), xml)[1]
    assert any(line.startswith("+") and fitting.loader in line for line in lines), lines
    variables.write_bytes(b"short")
    status, lines = check("--diff", "--nvram", str(variables), xml)
    assert status == 2
    assert "variables of 5 bytes" in lines[-1]


def test_a_machine_with_a_medium_in_its_drive_is_judged_without_it_unless_named() -> None:
    file = str(DATA / "centos6-i440fx-ide.in.xml")
    empty = "    /domain/devices/disk[2]"
    assert empty in check(file)[1]
    assert empty not in check("--disk", "hda", "--disk", "hdc", file)[1]


def test_what_a_file_holds_cannot_steer_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "m.xml"
    file.write_text(machine().replace("<name>m<", "<name>\u009b2J<"), encoding="utf-8")
    assert "\u009b" not in "\n".join(check("--diff", str(file))[1])


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    status, lines = check(str(tmp_path / "none.xml"))
    assert (status, lines) == (2, [f"launcher: {tmp_path}/none.xml cannot be read: No such file or directory"])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"plain text"])
def test_what_is_no_xml_is_refused(content: bytes) -> None:
    status, lines = check("-", stdin=content)
    assert status == 1
    assert lines[0] == "-: refused at /"

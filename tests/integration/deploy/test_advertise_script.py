"""HTCondor's startd runs vmbroker-advertise: it has an answer for every node, in the startd's form."""

from pathlib import Path

from tests.integration.deploy.files import DEPLOY, run, write_program

SCRIPT = DEPLOY / "htcondor" / "vmbroker-advertise"
GOOD = """\
[ "$*" = advertise ] || exit 9
echo 'CAN_RUN_VIRTUAL_MACHINE = true'
echo 'VMBROKER_REASON = "it works"'
echo 'VMBROKER_VCPUS = 4'"""


def answer(launcher: str, **environment: str) -> list[str]:
    said = run(SCRIPT, environment={"VMBROKER_LAUNCHER": launcher, **environment})
    assert said.returncode == 0, said.stderr
    return said.stdout.splitlines()


def reason_for_no(lines: list[str]) -> str:
    can, reason, end = lines
    assert can == "CAN_RUN_VIRTUAL_MACHINE = false"
    assert end == "-"
    assert reason.startswith('VMBROKER_REASON = "')
    assert reason.endswith('"')
    text = reason.removeprefix('VMBROKER_REASON = "').removesuffix('"')
    assert not set('"\\') & set(text)
    return text


def test_it_hands_on_what_the_launcher_says_and_ends_with_a_dash(tmp_path: Path) -> None:
    launcher = write_program(tmp_path / "launcher", GOOD)
    assert answer(str(launcher)) == [
        "CAN_RUN_VIRTUAL_MACHINE = true",
        'VMBROKER_REASON = "it works"',
        "VMBROKER_VCPUS = 4",
        "-",
    ]


def test_a_launcher_s_no_is_handed_on_as_it_is(tmp_path: Path) -> None:
    said = 'CAN_RUN_VIRTUAL_MACHINE = false\nVMBROKER_REASON = \\"no QEMU\\"'
    launcher = write_program(tmp_path / "launcher", f'echo "{said}"')
    assert reason_for_no(answer(str(launcher))) == "no QEMU"


def test_without_a_name_the_launcher_is_found_by_path(tmp_path: Path) -> None:
    write_program(tmp_path / "launcher", GOOD)
    said = run(SCRIPT, environment={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert said.stdout.startswith("CAN_RUN_VIRTUAL_MACHINE = true\n")


def test_a_launcher_that_is_missing_is_a_no(tmp_path: Path) -> None:
    reason = reason_for_no(answer(str(tmp_path / 'no "such" \\ launcher')))
    assert "there is no program" in reason
    assert "VMBROKER_LAUNCHER" in reason


def test_a_launcher_that_fails_is_a_no_whatever_it_printed_before(tmp_path: Path) -> None:
    launcher = write_program(tmp_path / "launcher", f"{GOOD}\nexit 3")
    assert "ended with status 3" in reason_for_no(answer(str(launcher)))


def test_a_launcher_that_hangs_is_a_no_once_its_time_is_over(tmp_path: Path) -> None:
    launcher = write_program(tmp_path / "launcher", f"{GOOD}\nexec sleep 60")
    reason = reason_for_no(answer(str(launcher), VMBROKER_ADVERTISE_LIMIT_S="0.5"))
    assert "did not end within 0.5 s" in reason


def test_another_program_of_that_name_is_a_no(tmp_path: Path) -> None:
    launcher = write_program(tmp_path / "launcher", "echo 'START = true'")
    assert "something else" in reason_for_no(answer(str(launcher)))

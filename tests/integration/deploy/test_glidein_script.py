"""A glidein runs can_run_vm.sh: its slots tell of vms, or it ends, as VMBROKER_REQUIRED says."""

import re
from pathlib import Path

import pytest

from tests.integration.deploy.files import DEPLOY, run, write_program
from tests.integration.deploy.glidein import Glidein, Outcome

SCRIPT = DEPLOY / "glideinwms" / "can_run_vm.sh"
GOOD = """\
[ "$1" = advertise ] || exit 9
echo 'CAN_RUN_VIRTUAL_MACHINE = true'
echo 'VMBROKER_REASON = "KVM works"'
echo 'VMBROKER_ACCELERATOR = "kvm"'
echo 'VMBROKER_VCPUS = 4'
echo 'VMBROKER_MEMORY_MIB = 8000'
echo 'VMBROKER_EXCHANGES = "network,disk"'
echo 'VMBROKER_VERSION = "0.2.0"'
echo 'VMBROKER_IMAGE_00ff = true'"""
BAD = """\
echo 'CAN_RUN_VIRTUAL_MACHINE = false'
echo 'VMBROKER_REASON = "not installed: qemu-img"'
echo 'VMBROKER_VERSION = "0.2.0"'"""


def outcome(tmp_path: Path, program: str | None, limit_s: str = "20", **attributes: str) -> Outcome:
    launcher = tmp_path / "bin" / "launcher"
    if program is not None:
        write_program(launcher, program)
    glidein = Glidein(tmp_path / "glidein", VMBROKER_LAUNCHER=str(launcher), **attributes)
    return glidein.run(SCRIPT, {"VMBROKER_ADVERTISE_LIMIT_S": limit_s})


def test_slots_of_a_good_node_have_what_the_launcher_tells_each_of_its_own_type(tmp_path: Path) -> None:
    good = outcome(tmp_path, GOOD)
    assert (good.status, good.said) == (0, "ok")
    assert good.ad() == {
        "CAN_RUN_VIRTUAL_MACHINE": "True",
        "VMBROKER_REASON": '"KVM works"',
        "VMBROKER_ACCELERATOR": '"kvm"',
        "VMBROKER_VCPUS": "4",
        "VMBROKER_MEMORY_MIB": "8000",
        "VMBROKER_EXCHANGES": '"network,disk"',
        "VMBROKER_VERSION": '"0.2.0"',
        "VMBROKER_IMAGE_00ff": "True",
    }
    assert good.columns["VMBROKER_VCPUS"] == ["I", "-", "+", "N", "Y", "-"]
    assert good.columns["VMBROKER_REASON"][0] == "S"
    assert good.columns["CAN_RUN_VIRTUAL_MACHINE"][0] == "C"


def test_a_launcher_gets_the_site_s_bounds_and_short_paths(tmp_path: Path) -> None:
    program = f'echo "$VMBROKER_SITE $*" > {tmp_path}/words\n{GOOD}'
    assert outcome(tmp_path, program, VMBROKER_SITE="/etc/site.toml").ad()["CAN_RUN_VIRTUAL_MACHINE"] == "True"
    assert (tmp_path / "words").read_text() == "/etc/site.toml advertise --scratch /tmp\n"


def test_without_a_site_s_bounds_a_launcher_keeps_what_it_found_with_the_glidein(tmp_path: Path) -> None:
    program = f'echo "$*" > {tmp_path}/words\n{GOOD}'
    assert outcome(tmp_path, program).status == 0
    assert (tmp_path / "words").read_text() == f"advertise --scratch /tmp --cache {tmp_path}/glidein/vmbroker-cache\n"


def test_a_later_run_in_another_folder_tells_the_startd_by_its_output_what_has_changed(tmp_path: Path) -> None:
    launcher = write_program(tmp_path / "bin" / "launcher", GOOD)
    glidein = Glidein(tmp_path / "glidein", VMBROKER_LAUNCHER=str(launcher), CONDOR_VARS_FILE="condor_vars.lst")
    first = glidein.run(SCRIPT, {})
    write_program(launcher, BAD)
    later = glidein.run_again(SCRIPT)
    for each, can in ((first, "True"), (later, "False")):
        assert (each.status, each.said) == (0, "ok")
        assert each.config["CAN_RUN_VIRTUAL_MACHINE"] == can
        told = dict(line.split(" = ", 1) for line in each.output.splitlines())
        assert told.items() <= each.ad().items()
        assert told["CAN_RUN_VIRTUAL_MACHINE"] == can
    assert 'VMBROKER_REASON = "not installed: qemu-img"\n' in later.output


@pytest.mark.parametrize("prefix", ["GLIDECLIENT_GROUP_", "GLIDECLIENT_Group_", "GLIDECLIENT_", ""])
def test_a_bundle_that_came_with_the_glidein_is_found_by_the_name_that_its_folder_has(
    tmp_path: Path, prefix: str
) -> None:
    write_program(tmp_path / "unpacked" / "vmbroker-0.2.0" / "bin" / "launcher", GOOD)
    folder = {f"{prefix}VMBROKER_DIR": str(tmp_path / "unpacked")}
    found = Glidein(tmp_path / "glidein", **folder).run(SCRIPT, {})
    assert found.ad()["CAN_RUN_VIRTUAL_MACHINE"] == "True"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (BAD, "not installed: qemu-img"),
        (None, "there is no program"),
        (f"{GOOD}\nexit 1", "ended with status 1"),
        ("echo 'START = true'", "something else"),
    ],
    ids=["bad node", "no launcher", "failing", "another program"],
)
class TestANodeThatCannot:
    def test_its_slots_say_no_and_the_glidein_serves_other_jobs(
        self, tmp_path: Path, program: str | None, reason: str
    ) -> None:
        bad = outcome(tmp_path, program)
        assert (bad.status, bad.said) == (0, "ok")
        assert bad.ad()["CAN_RUN_VIRTUAL_MACHINE"] == "False"
        assert reason in bad.ad()["VMBROKER_REASON"]
        assert set(bad.ad()) == {"CAN_RUN_VIRTUAL_MACHINE", "VMBROKER_REASON"}

    def test_the_glidein_ends_where_vms_are_required_and_says_why(
        self, tmp_path: Path, program: str | None, reason: str
    ) -> None:
        bad = outcome(tmp_path, program, VMBROKER_REQUIRED="True")
        assert (bad.status, bad.said) == (1, "error")
        assert bad.metrics["failure"] == "WN_Resource"
        assert reason in bad.detail


def test_a_launcher_that_hangs_is_a_no_once_its_time_is_over(tmp_path: Path) -> None:
    bad = outcome(tmp_path, f"{GOOD}\nexec sleep 60", limit_s="0.5", VMBROKER_REQUIRED="True")
    assert bad.status == 1
    assert "did not end within 0.5 s" in bad.detail


def test_nothing_that_a_launcher_says_breaks_the_configuration_or_is_run(tmp_path: Path) -> None:
    nasty = "a 'quote', $(touch ran) `touch ran` <b> & \\\\\"x\\\\\" $(CONDOR)"
    said = f'CAN_RUN_VIRTUAL_MACHINE = true\nVMBROKER_REASON = "{nasty}"\nSTART = true\nVMBROKER_X = 1 || true'
    program = f"cat <<'END'\n{said}\nEND"
    found = outcome(tmp_path, program)
    assert set(found.ad()) == {"CAN_RUN_VIRTUAL_MACHINE", "VMBROKER_REASON"}
    assert not re.search(r"['\"\\$`<>&]", found.config["VMBROKER_REASON"])
    assert not list(tmp_path.rglob("ran"))


def test_without_the_tools_of_a_glidein_it_fails_and_says_what_is_missing(tmp_path: Path) -> None:
    config = tmp_path / "glidein_config"
    config.write_text("GLIDEIN_Entry_Name site\n")
    said = run(SCRIPT, config, "site")
    assert said.returncode == 1
    assert "ERROR_GEN_PATH" in said.stderr

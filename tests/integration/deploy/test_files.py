"""Each file says who installs it and who reads it, its folder's table names it, and what it starts takes its words."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from broker.cli.commands import load
from launcher.batch.order import Order
from launcher.commands import app as launcher_app
from tests.integration.deploy.files import DEPLOY, FOLDERS, all_files, commands_in, run, shell_scripts
from tests.support.grid import REPOSITORY

_FILES = [str(path.relative_to(DEPLOY)) for path in all_files()]
_SAYS = ("who installs it", ("who reads it", "who runs it"))
_DEFAULT_RUNTIME_S = 26 * 3600
_HEAD_LINES = 12


@pytest.mark.parametrize("name", _FILES)
def test_a_file_begins_with_who_installs_it_and_who_reads_it(name: str) -> None:
    head = " ".join((DEPLOY / name).read_text().splitlines()[:_HEAD_LINES]).replace(" # ", " ").lower()
    assert _SAYS[0] in head
    assert any(words in head for words in _SAYS[1])


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_table_of_a_folder_names_each_of_its_files_and_no_other(folder: str) -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (DEPLOY / folder / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in all_files() if path.parent.name == folder)


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder != "systemd"])
def test_the_page_of_a_batch_system_says_what_to_do_with_each_file(folder: str) -> None:
    page = (REPOSITORY / "docs" / "how-to" / f"run-on-{folder}.md").read_text()
    assert [path.name for path in all_files() if path.parent.name == folder and path.name not in page] == []


@pytest.mark.parametrize("path", shell_scripts(), ids=lambda path: path.name)
def test_a_script_is_one_that_a_plain_shell_can_read(path: Path) -> None:
    said = run("dash", "-n", path)
    assert (said.returncode, said.stderr) == (0, "")


def test_scripts_that_others_run_by_their_path_are_executable() -> None:
    for name in ("htcondor/vmbroker-advertise", "glideinwms/can_run_vm.sh"):
        assert (DEPLOY / name).stat().st_mode & 0o111 == 0o111, name


def _known_options(program: str, command: str) -> set[str]:
    launcher: Any = get_command(launcher_app)  # its types are of Typer's own making
    found = launcher.commands[command] if program == "launcher" else load(command)
    return {option for parameter in found.params for option in parameter.opts}


def test_what_files_start_has_the_options_that_they_give_it() -> None:
    started = {path.name: words for path in all_files() for words in commands_in(path)}
    assert sorted(started) == [
        "can_run_vm.sh",
        "launcher.pbs",
        "launcher.sbatch",
        "launcher.sub",
        "vmbroker-advertise",
        "vmbroker-broker.service",
        "vmbroker-launcher.service",
        "vmbroker-provisioner.service",
    ]
    for name, (program, command, *words) in started.items():
        given = {word for word in words if re.match("--[a-z]", word)}
        assert given <= _known_options(program, command), name


def test_jobs_by_hand_have_the_times_of_those_that_launcher_submit_makes() -> None:
    grace_s = Order(broker="https://broker.example", launcher="/x").grace_s
    condor, slurm, pbs = (
        (DEPLOY / name).read_text() for name in ("htcondor/launcher.sub", "slurm/launcher.sbatch", "pbs/launcher.pbs")
    )
    assert f"job_max_vacate_time = {grace_s}\n" in condor
    assert f"allowed_job_duration = {_DEFAULT_RUNTIME_S}\n" in condor
    assert f"#SBATCH --signal=B:TERM@{grace_s}\n" in slurm
    assert f"#SBATCH --time={_DEFAULT_RUNTIME_S // 60}\n" in slurm
    assert f"#PBS -l walltime={_DEFAULT_RUNTIME_S // 3600}:00:00\n" in pbs


def test_a_site_s_time_from_sigterm_to_sigkill_is_enough_for_a_launcher() -> None:
    grace_s = Order(broker="https://broker.example", launcher="/x").grace_s
    for name, pattern in (
        ("htcondor/50-vmbroker-node.conf", r"^MachineMaxVacateTime = (\d+)$"),
        ("slurm/vmbroker.conf", r"^KillWait=(\d+)$"),
        ("pbs/virt-queue.qmgr", r"kill_delay = (\d+)$"),
        ("pbs/virt-queue-openpbs.qmgr", r"kill_delay = (\d+)$"),
        ("systemd/vmbroker-launcher.service", r"^TimeoutStopSec=(\d+)$"),
    ):
        found = re.search(pattern, (DEPLOY / name).read_text(), re.MULTILINE)
        assert found is not None, name
        assert int(found[1]) >= grace_s, name

"""HTCondor, Slurm and PBS do with launcher jobs what the fake of the unit tests does, too."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ordinary_account
from tests.support.access_point import AccessPoint
from tests.support.batch_contract import check_contract

pytestmark = [pytest.mark.grid, pytest.mark.timeout(240)]

STAND_IN = """\
#!/bin/sh
# Takes the place of a launcher that has no work, and ends when it is told to.
trap 'exit 0' TERM
while :; do sleep 0.2; done
"""


@dataclass(frozen=True)
class ByCommand:
    """Drives a batch system by `launcher submit`, `jobs` and `remove`."""

    point: AccessPoint
    launcher: Path

    def submit(self, slots: int) -> list[str]:
        return self.point.submit(slots, "--launcher", str(self.launcher), "--memory-mib", "600", "--drain-s", "5")

    def states(self) -> dict[str, str]:
        return {name: job["state"] for name, job in self.point.jobs().items()}

    def submissions(self) -> dict[str, str]:
        return {name: job["submission"] for name, job in self.point.jobs().items()}

    def remove(self, ids: list[str]) -> None:
        self.point.ok("remove", f"--{self.point.kind}", *ids)


def stand_in(folder: Path) -> Path:
    """Put the stand-in where the account's jobs find it."""
    path = ordinary_account.write_file(folder / "stand-in", STAND_IN)
    path.chmod(0o755)
    return path


def test_htcondor(condor: AccessPoint) -> None:
    check_contract(ByCommand(condor, stand_in(condor.home)))


def test_slurm_and_pbs(login_node: AccessPoint) -> None:
    check_contract(ByCommand(login_node, stand_in(login_node.home)))


def test_what_no_batch_system_could_take_is_refused_in_one_sentence_and_leaves_no_credential(
    condor: AccessPoint,
) -> None:
    tokens = set(condor.state_folder.glob("*/token"))
    said = condor.run("submit", "--htcondor", "--slots", "1", "--launcher", "/bin/true", "--requirements", "FOO ==")
    assert said.status == 2
    assert "Parse error in expression" in said.err
    assert set(condor.state_folder.glob("*/token")) == tokens
    said = condor.run("remove", "--htcondor", "99999.0")
    assert (said.status, said.out) == (2, "")
    assert "there is no launcher job 99999.0" in said.err

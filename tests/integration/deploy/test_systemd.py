"""systemd's own check of the units, with programs in place of ours; nothing is started."""

import re
from pathlib import Path

import pytest

from tests.integration.deploy.files import DEPLOY, run

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
_FORBIDS_NAMESPACES = {
    "DeviceAllow", "DevicePolicy", "MountAPIVFS", "PrivateDevices", "PrivateNetwork", "PrivateUsers", "ProcSubset",
    "ProtectClock", "ProtectControlGroups", "ProtectKernelLogs", "ProtectKernelTunables", "ProtectProc",
    "RestrictNamespaces", "RootDirectory", "SystemCallFilter",
}  # fmt: skip
"""With any of these a launcher makes no namespaces, mounts no /proc of its own, or opens no /dev/kvm.

Source: systemd.exec(5), systemd.resource-control(5); for ProtectClock before 253, systemd's pull request 25075.
"""


def verify(text: str, unit: Path) -> str:
    """Return what systemd has to say against a unit; some of it with status 0."""
    unit.write_text(re.sub(r"/opt/vmbroker/bin/\w+", "/bin/true", text))
    said = run("systemd-analyze", "verify", "--man=no", unit)
    return said.stdout + said.stderr + (f"status {said.returncode}" if said.returncode else "")


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_has_nothing_to_say_against_a_unit(path: Path, tmp_path: Path) -> None:
    assert verify(path.read_text(), tmp_path / path.name) == ""


@pytest.mark.parametrize("change", [("KillMode=", "KillModus="), ("TimeoutStopSec=60", "TimeoutStopSec=soon")])
def test_systemd_would_say_so_if_a_unit_had_a_fault(change: tuple[str, str], tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / "vmbroker-launcher.service").read_text()
    assert change[0] in text
    assert verify(text.replace(*change), tmp_path / "vmbroker-launcher.service") != ""


def test_a_launcher_as_a_service_may_make_the_namespaces_that_it_needs() -> None:
    text = (DEPLOY / "systemd" / "vmbroker-launcher.service").read_text()
    settings = set(re.findall(r"^(\w+)=", text, re.MULTILINE))
    assert not settings & _FORBIDS_NAMESPACES


@pytest.mark.parametrize("name", ["vmbroker-launcher", "vmbroker-provisioner"])
def test_a_token_reaches_a_service_as_a_credential_and_by_no_argument_or_variable(name: str) -> None:
    text = (DEPLOY / "systemd" / f"{name}.service").read_text()
    assert "\nLoadCredential=token:/etc/vmbroker/token\n" in text
    assert re.search(r"^ExecStart=.* --token-file %d/token( |$)", text, re.MULTILINE)
    assert not re.search(r"^Environment=.*token", text, re.MULTILINE | re.IGNORECASE)

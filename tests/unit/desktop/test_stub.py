"""The script that root of any machine runs: read by small shells, and run in roots with one init system each."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from broker.desktop.stub import install_script
from tests.support.grid import REPOSITORY

LIMIT_S = 60
WORD = '#!/bin/sh\necho "${0##*/} $*" >>/told\n'
"""A command that only tells that it was called, as a distribution's own."""


class Root:
    """A root folder with busybox for a shell; what a distribution has beside it is put there by a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = shutil.which("busybox")
        assert program, "deploy/setup/system-packages test installs busybox-static"
        for name in ("bin", "sbin", "etc", "run", "dev"):
            (folder / name).mkdir()
        (folder / "dev/null").touch()
        shutil.copy(program, folder / "bin/busybox")
        for applet in ("sh", "cat", "chmod", "echo", "grep", "id", "mkdir", "readlink", "rm"):
            (folder / "bin" / applet).symlink_to("busybox")

    def have(self, *commands: str) -> None:
        for command in commands:
            path = self.folder / command
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(WORD)
            path.chmod(0o755)

    def install(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["unshare", "-Ur", "chroot", str(self.folder), "/bin/sh", "-s", "--", *arguments],
            input=install_script(),
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def told(self) -> list[str]:
        file = self.folder / "told"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


@pytest.mark.parametrize("shell", [["dash", "-n"], ["bash", "--posix", "-n"], ["busybox", "sh", "-n"]])
def test_every_shell_can_read_it(shell: list[str]) -> None:
    ended = subprocess.run(shell, input=install_script(), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_download_that_was_cut_short_does_nothing(root: Root) -> None:
    script = install_script()
    assert script.endswith('\nmain "$@"\n')
    assert script.count("\nmain ") == 1


def test_systemd_gets_the_very_unit_that_the_images_have(root: Root) -> None:
    (root.folder / "lib/systemd").mkdir(parents=True)
    (root.folder / "sbin/init").symlink_to("/lib/systemd/systemd")
    (root.folder / "etc/systemd/system").mkdir(parents=True)
    root.have("lib/systemd/systemd", "bin/systemctl")
    said = root.install()
    assert (said.returncode, said.stderr) == (0, "")
    unit = root.folder / "etc/systemd/system/vmbroker-guest.service"
    assert unit.read_text() == (REPOSITORY / "deploy/image/stub/vmbroker-guest.service").read_text()
    assert root.install("--remove").returncode == 0
    assert not unit.exists()
    assert root.told() == ["systemctl enable vmbroker-guest.service", "systemctl disable vmbroker-guest.service"]


@pytest.mark.parametrize(
    ("init", "commands", "told"),
    [
        (
            "openrc",
            ["sbin/openrc-run", "sbin/rc-update"],
            ["rc-update add vmbroker-guest default", "rc-update del vmbroker-guest default"],
        ),
        (
            "sysv",
            ["usr/sbin/update-rc.d", "etc/rc2.d/S01rsyslog"],
            ["update-rc.d vmbroker-guest defaults", "update-rc.d -f vmbroker-guest remove"],
        ),
        (
            "sysv",
            ["sbin/chkconfig", "etc/rc.d/rc3.d/S12syslog"],
            ["chkconfig --add vmbroker-guest", "chkconfig --del vmbroker-guest"],
        ),
    ],
)
def test_older_and_smaller_inits_get_a_service_that_runs_at_start_up(
    root: Root, init: str, commands: list[str], told: list[str]
) -> None:
    (root.folder / "etc/init.d").mkdir()
    root.have(*commands)
    said = root.install()
    assert f"the stub is installed for {init}" in said.stdout, said.stderr
    parts = [root.folder / path for path in ("etc/init.d/vmbroker-guest", "usr/local/sbin/vmbroker-guest")]
    assert all(os.access(part, os.X_OK) for part in parts)
    assert root.install("--remove").returncode == 0
    assert not any(part.exists() for part in parts)
    assert root.told() == told


def test_busybox_gets_one_line_in_its_inittab_however_often_it_is_installed(root: Root) -> None:
    (root.folder / "sbin/init").symlink_to("/bin/busybox")
    inittab = root.folder / "etc/inittab"
    inittab.write_text("::sysinit:/etc/start\n")
    for _ in range(2):
        assert "installed for busybox" in root.install().stdout
    assert inittab.read_text() == "::sysinit:/etc/start\n::once:/usr/local/sbin/vmbroker-guest\n"
    root.install("--remove")
    assert inittab.read_text() == "::sysinit:/etc/start\n"


def test_an_init_system_that_it_does_not_know_is_one_sentence_and_nothing_is_changed(root: Root) -> None:
    before = sorted(root.folder.rglob("*"))
    said = root.install()
    assert said.returncode == 1
    assert said.stderr.startswith("vmbroker: this machine's init system is none of systemd, OpenRC, SysV and busybox")
    assert len(said.stderr.splitlines()) == 1
    assert sorted(root.folder.rglob("*")) == before


def test_what_the_distribution_refuses_to_enable_is_no_success(root: Root) -> None:
    (root.folder / "etc/init.d").mkdir()
    root.have("sbin/openrc-run", "sbin/rc-update")
    (root.folder / "sbin/rc-update").write_text("#!/bin/sh\nexit 1\n")
    said = root.install()
    assert (said.returncode, said.stdout) == (1, "")
    assert "could not be installed for openrc" in said.stderr


@pytest.mark.parametrize("init", ["openrc", "busybox"])
def test_what_cannot_be_written_is_no_success(root: Root, init: str) -> None:
    (root.folder / "sbin/init").symlink_to("/bin/busybox")
    (root.folder / "etc/inittab").touch()
    if init == "openrc":
        root.have("sbin/openrc-run", "sbin/rc-update")
    # Root may write to any file; nobody can to below what is no folder.
    (root.folder / "usr").touch()
    (root.folder / "etc/init.d").mkdir()

    said = root.install()

    assert (said.returncode, said.stdout) == (1, "")
    assert f"could not be installed for {init}" in said.stderr
    assert root.told() == []
    assert (root.folder / "etc/inittab").read_text() == ""


def test_an_argument_that_it_does_not_know_is_refused(root: Root) -> None:
    root.have("sbin/openrc-run", "sbin/rc-update")
    said = root.install("--delete")
    assert (said.returncode, said.stderr) == (1, "vmbroker: unknown argument '--delete'; the only one is --remove\n")

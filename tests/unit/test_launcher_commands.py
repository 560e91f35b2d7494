"""The launcher's command where only the parts of an access point are installed: neither libvirt nor lxml."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.launching import short_folder

LIMIT_S = 60
# In a process of its own, since this one has them imported already.
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"libvirt", "libvirtmod", "lxml", "pycdlib"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""
MAIN = "from launcher.cli import main; main()"


def asked(*arguments: str, code: str = MAIN) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_the_parts_are_really_missing() -> None:
    ended = asked(code="import lxml.etree")
    assert ended.returncode == 1
    assert "No module named 'lxml'" in ended.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("run", "--help"), ("submit", "--help")])
def test_what_shows_only_words_needs_neither_libvirt_nor_lxml(arguments: tuple[str, ...]) -> None:
    ended = asked(*arguments)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_every_command_tells_what_it_takes_without_them() -> None:
    code = "from launcher.commands import app; import typer.main; print(*typer.main.get_command(app).commands)"
    listed = asked(code=code)
    assert listed.returncode == 0, listed.stderr
    assert {"run", "advertise", "bundle", "submit", "jobs", "remove", "provision"} < set(listed.stdout.split())


def test_the_settings_and_an_images_name_are_read_without_them() -> None:
    code = """
from launcher.settings import read_settings, slot_of
from launcher.images.public_names import image_attribute
print(slot_of(read_settings(cache=None)).vcpus.value > 0, image_attribute("sha256:0"))
"""
    ended = asked(code=code)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("True VMBROKER_IMAGE_")


@pytest.mark.parametrize(
    "command", [("check-machine", "/dev/null"), ("doctor",), ("bundle", "-o", "/nowhere/b.tar.gz")]
)
def test_a_command_that_needs_them_says_what_to_install(command: tuple[str, ...]) -> None:
    ended = asked(*command)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.endswith("is not installed; install the launcher's extra: pip install 'vmbroker[launcher]'")


def test_a_node_that_lacks_them_is_an_answer_of_advertise(tmp_path: Path) -> None:
    with short_folder("vmb-cmd-") as scratch:
        ended = asked("advertise", "--cache", str(tmp_path / "c"), "--scratch", str(scratch))
    assert ended.returncode == 0
    assert ended.stdout.startswith("CAN_RUN_VIRTUAL_MACHINE = false\n")
    assert "is not installed on this node" in ended.stdout

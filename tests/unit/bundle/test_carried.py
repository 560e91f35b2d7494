"""Which file above the launcher's package is believed to be a bundle's."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher import carried as module
from launcher.carried import MARK, SITE_FOLDER

LIMIT_S = 30
TOLD = {
    "loader": "lib/ld.so",
    "libraries": "lib",
    "guest_disk": "share/guest-disk.img",
    "guest_disk_digest": "sha256:" + 64 * "a",
}
ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from launcher.carried import carried
bundle = carried()
print(bundle and bundle.loader)
"""
COMMAND = "import sys; sys.path.insert(0, sys.argv[1]); from launcher.cli import main; main()"


def package_in(folder: Path) -> Path:
    """Put the launcher's package into a folder, as much of it as is asked."""
    package = folder / "launcher"
    package.mkdir(parents=True)
    for source in (Path(module.__file__), Path(module.__file__).with_name("cli.py")):
        shutil.copy(source, package)
    (package / "__init__.py").touch()
    return package


def ran(place: Path, code: str = ASK) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", "-c", code, str(place)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_a_file_above_anything_but_a_bundles_packages_is_nobodys_word(tmp_path: Path) -> None:
    (tmp_path / MARK).write_text(json.dumps(TOLD))
    for name, told in (("checkout", "None"), ("site-packages", "None"), (SITE_FOLDER, str(tmp_path / "lib/ld.so"))):
        package_in(tmp_path / name)
        assert ran(tmp_path / name).stdout.strip() == told


def test_a_launcher_without_such_a_file_is_in_no_bundle(tmp_path: Path) -> None:
    package_in(tmp_path / SITE_FOLDER)
    assert ran(tmp_path / SITE_FOLDER).stdout.strip() == "None"


def write(told: object) -> Callable[[Path], object]:
    return lambda mark: mark.write_text(told if isinstance(told, str) else json.dumps(told))


def link(mark: Path) -> None:
    mark.with_name("elsewhere").write_text(json.dumps(TOLD))
    mark.symlink_to("elsewhere")


def open_to_all(mark: Path) -> None:
    mark.write_text(json.dumps(TOLD))
    mark.chmod(0o666)


def give_away(mark: Path) -> None:
    mark.write_text(json.dumps(TOLD))
    os.chown(mark, 65534, 65534)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "absolute": (write({**TOLD, "loader": "/tmp/ld.so"}), "is not as a bundle has it"),
    "outside": (write({**TOLD, "libraries": "../lib"}), "is not as a bundle has it"),
    "lacking": (write({"loader": "x"}), "is not as a bundle has it"),
    "number": (write({**TOLD, "guest_disk": 1}), "is not as a bundle has it"),
    "digest": (write({**TOLD, "guest_disk_digest": "sha256:../x"}), "is not as a bundle has it"),
    "list": (write([]), "is not as a bundle has it"),
    "no_json": (write("{"), "is not as a bundle has it"),
    "nested": (write("[" * 5_000), "is not as a bundle has it"),
    "link": (link, "cannot be read"),
    "folder": (Path.mkdir, "cannot be read"),
    "open": (open_to_all, "others than the bundle's owner"),
    "theirs": (give_away, "others than the bundle's owner"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bundle_that_cannot_be_believed_is_told_in_one_sentence(tmp_path: Path, kind: str) -> None:
    if kind == "theirs" and os.geteuid() != 0:
        pytest.skip("only root gives a file away")
    spoil, sentence = BAD[kind]
    package_in(tmp_path / SITE_FOLDER)
    spoil(tmp_path / MARK)
    said = ran(tmp_path / SITE_FOLDER, COMMAND)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert f"launcher: {tmp_path / MARK}" in said.stderr
    assert sentence in said.stderr

"""The built wheel, installed alone into a fresh environment for each role, runs that role's commands."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.grid import REPOSITORY

COMMANDS = {
    "": ["vmbroker-guest --version"],
    "[broker]": ["broker --help", "broker check-config", "vmbroker-guest --version"],
    "[launcher]": ["launcher --version", "launcher check-config"],
}


def uv() -> str:
    cache = (
        os.environ.get("VMBROKER_CACHE") or os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")) + "/vmbroker"
    )
    found = shutil.which("uv") or shutil.which("uv", path=f"{cache}/uv/bin")
    assert found, "uv is what `make test` installs; run the tests by it"
    return found


def run(*command: str, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment |= {"XDG_CONFIG_HOME": str(folder / "config"), "UV_SYSTEM_CERTS": "true"}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(uv(), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(REPOSITORY), folder=folder)
    return next(folder.glob("vmbroker-*.whl"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("extra", COMMANDS)
def test_the_wheel_alone_runs_a_roles_commands(wheel: Path, extra: str, tmp_path: Path) -> None:
    python = str(tmp_path / "e" / "bin" / "python")
    run(uv(), "venv", "--quiet", "--python", "/usr/bin/python3", str(tmp_path / "e"), folder=tmp_path)
    run(uv(), "pip", "install", "--quiet", "--python", python, f"{wheel}{extra}", folder=tmp_path)
    for command in COMMANDS[extra]:
        name, *arguments = command.split()
        assert run(str(tmp_path / "e" / "bin" / name), *arguments, folder=tmp_path)


def test_a_command_without_its_extra_says_what_to_install(wheel: Path, tmp_path: Path) -> None:
    run(uv(), "venv", "--quiet", "--python", "/usr/bin/python3", str(tmp_path / "e"), folder=tmp_path)
    python = str(tmp_path / "e" / "bin" / "python")
    run(uv(), "pip", "install", "--quiet", "--python", python, str(wheel), folder=tmp_path)
    for name in ("broker", "launcher"):
        command = [str(tmp_path / "e" / "bin" / name), "--help"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 2
        assert f"vmbroker[{name}]" in ended.stderr
        assert "Traceback" not in ended.stderr

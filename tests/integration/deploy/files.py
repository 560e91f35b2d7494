"""What a site installs: where the files are, and ways to read them that several tests share."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.grid import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
FOLDERS = ("glideinwms", "htcondor", "pbs", "slurm", "systemd")
_LIMIT_S = 20


def all_files() -> list[Path]:
    """Return the files that somebody installs."""
    found = [path for folder in FOLDERS for path in sorted((DEPLOY / folder).iterdir())]
    return [path for path in found if path.name != "README.md" and path.is_file()]


def shell_scripts() -> list[Path]:
    return [path for path in all_files() if path.read_text().startswith("#!")]


def commands_in(path: Path) -> Iterator[list[str]]:
    """Yield the words of each line with which a file starts a launcher or a broker, lines with `\\` put together."""
    text = path.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        started = re.search(
            r"(?:/|\$\(|\$|\"\$)?(launcher|LAUNCHER|broker)[\")]* ((?:run|provision|serve|advertise) .*)", line
        )
        if started is not None and not line.startswith("#"):
            yield [started[1].lower(), *started[2].split()]


def run(*words: str | Path, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a program with these variables alone, or this process's."""
    command = [str(word) for word in words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False)


def write_program(path: Path, text: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path

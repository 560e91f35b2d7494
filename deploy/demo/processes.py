"""Programs that the demo runs as a person would, each shown with its command line, and what is left when they ended."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

_STOP_S = 60
_POLL_S = 0.1


class DemoFailed(Exception):
    """The demo cannot go on; the text is the one sentence to show."""


class Shell:
    """Runs this environment's `broker` and `launcher` in a home of the demo's own."""

    def __init__(self, console: Console, home: Path) -> None:
        self._console = console
        self._bin = Path(sys.executable).parent
        self.environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "PATH": f"{self._bin}:{os.environ.get('PATH', '')}",
        }
        for variable in ("BEARER_TOKEN", "BEARER_TOKEN_FILE", "VMBROKER_URL"):
            self.environment.pop(variable, None)

    def run(self, *command: str, timeout_s: float = 600, may_fail: bool = False) -> int:
        """Run a command in the foreground, its output on this terminal.

        Raises:
            DemoFailed: it ended with another status than 0, unless it `may_fail`.
        """
        self._show(command)
        try:
            status = subprocess.run(
                self._argv(command), env=self.environment, timeout=timeout_s, check=False
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise DemoFailed(f"`{' '.join(command[:2])}` did not end within {timeout_s:.0f} s") from error
        if status and not may_fail:
            raise DemoFailed(f"`{' '.join(command[:2])}` ended with exit status {status}; what it said is above")
        return status

    def capture(self, *command: str) -> bytes:
        """Run a command silently and return its standard output.

        Raises:
            DemoFailed: it ended with another status than 0.
        """
        ended = subprocess.run(self._argv(command), env=self.environment, capture_output=True, timeout=60, check=False)
        if ended.returncode:
            raise DemoFailed(f"`{' '.join(command[:2])}` failed: {ended.stderr.decode(errors='replace').strip()}")
        return ended.stdout

    @contextmanager
    def running(self, log: Path, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a command in the background while the block runs; it is stopped by SIGTERM and its end awaited.

        Raises:
            DemoFailed: it did not stop within a minute.
        """
        self._show(command, " &")
        with log.open("wb") as file:
            process = subprocess.Popen(
                self._argv(command), env=self.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        try:
            yield process
        finally:
            stop(process, " ".join(command[:2]))

    def _argv(self, command: Sequence[str]) -> list[str]:
        return [str(self._bin / command[0]), *command[1:]]

    def _show(self, command: Sequence[str], mark: str = "") -> None:
        self._console.print(
            f"[bold green]$[/] [bold]{escape(shlex.join(command))}{mark}[/]", highlight=False, soft_wrap=True
        )


def stop(process: "subprocess.Popen[bytes]", name: str) -> None:
    """End a process by SIGTERM; SIGKILL and an error if that takes more than a minute."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.wait()
        raise DemoFailed(f"`{name}` did not stop within {_STOP_S} s of SIGTERM") from error


def wait_for_file(path: Path, process: "subprocess.Popen[bytes]", log: Path, what: str, timeout_s: float = 60) -> None:
    """Wait until a file is there.

    Raises:
        DemoFailed: the process ended before, or the time is over; with the last lines of its log.
    """
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise DemoFailed(f"{what} did not start:\n{tail}")
        time.sleep(_POLL_S)


def left_running(mark: str) -> list[str]:
    """Return the command lines of processes that name `mark`, the demo's own folder: there should be none."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if mark in line and int(entry.parent.name) != os.getpid():
            found.append(line)
    return found

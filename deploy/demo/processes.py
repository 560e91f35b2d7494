"""Programs that the demo runs as a person would, each shown with its command line, and what is left when they ended.

While one runs in the foreground, those in the background are looked after: the end of any of them ends the demo.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from rich.console import Console
from rich.markup import escape

from deploy.demo.stopping import StopSignals

_STOP_S = 60
_SELF_STOP_S = 1
_INTERRUPT_S = 10
_POLL_S = 0.1
_TAIL_LINES = 20
_GONE_S = 20


class DemoFailed(Exception):
    """The demo cannot go on; the text is the one sentence to show."""


class TookTooLong(DemoFailed):
    """A command in the foreground was stopped because its time was over."""


class _Server(NamedTuple):
    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def check(self) -> None:
        status = self.process.poll()
        if status is not None:
            how = f"ended with exit status {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
            raise DemoFailed(f"`{self.name}` {how}:\n{log_tail(self.log)}")


class Shell:
    """Runs this environment's `broker` and `launcher` in a home of the demo's own."""

    def __init__(self, console: Console, home: Path, stop_signals: StopSignals) -> None:
        self._console = console
        self._stop_signals = stop_signals
        self._bin = Path(sys.executable).parent
        self._environment = _environment(home, self._bin)
        self._servers: list[_Server] = []

    def run(self, *command: str, timeout_s: float = 600, may_fail: bool = False) -> int:
        """Run a command in the foreground, its output on this terminal.

        Raises:
            DemoFailed: it ended with another status than 0, unless it `may_fail`; or a server ended meanwhile.
            TookTooLong: it was stopped after `timeout_s`.
            Stopped: a signal came.
        """
        self._show(command)
        process = subprocess.Popen(self._argv(command), env=self._environment)
        self._finish(process, _name(command), timeout_s)
        if process.returncode and not may_fail:
            raise DemoFailed(f"`{_name(command)}` ended with exit status {process.returncode}; what it said is above")
        return process.returncode

    def capture(self, *command: str, environment: Mapping[str, str] | None = None, timeout_s: float = 60) -> bytes:
        """Run a command silently and return its standard output.

        Raises:
            DemoFailed: it ended with another status than 0; or a server ended meanwhile.
            TookTooLong: it was stopped after `timeout_s`.
            Stopped: a signal came.
        """
        process = subprocess.Popen(
            self._argv(command),
            env=self._environment if environment is None else environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output, errors = self._finish(process, _name(command), timeout_s)
        if process.returncode:
            raise DemoFailed(f"`{_name(command)}` failed: {errors.decode(errors='replace').strip()}")
        return output

    @contextmanager
    def running(self, log: Path, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a command in the background while the block runs; it is stopped by SIGTERM and its end awaited.

        Raises:
            DemoFailed: it did not stop within a minute.
        """
        self._show(command, " &")
        with log.open("wb") as file:
            # A group of its own: Ctrl-C at the terminal is for the demo, which stops its servers in their order.
            process = subprocess.Popen(
                self._argv(command),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                process_group=0,
            )
        self._servers.append(_Server(_name(command), process, log))
        try:
            yield process
        finally:
            self._servers.pop()
            stop(process, _name(command))

    def wait_for_file(self, path: Path, timeout_s: float = 60) -> None:
        """Wait until a server wrote a file.

        Raises:
            DemoFailed: a server ended before, or the time is over; with the last lines of the newest server's log.
            Stopped: a signal came.
        """
        deadline_s = time.monotonic() + timeout_s
        while not path.exists():
            self._check()
            if time.monotonic() > deadline_s:
                newest = self._servers[-1]
                raise DemoFailed(f"`{newest.name}` was not ready in {timeout_s:.0f} s:\n{log_tail(newest.log)}")
            time.sleep(_POLL_S)

    def _finish(self, process: "subprocess.Popen[bytes]", name: str, timeout_s: float) -> tuple[bytes, bytes]:
        try:
            said = self._communicate(process, name, timeout_s)
        finally:
            _interrupt(process)
        # A signal, or a server's end, is why the command ended too.
        self._check()
        return said

    def _communicate(self, process: "subprocess.Popen[bytes]", name: str, timeout_s: float) -> tuple[bytes, bytes]:
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                return process.communicate(timeout=_POLL_S)
            except subprocess.TimeoutExpired as error:
                self._check()
                if time.monotonic() > deadline_s:
                    raise TookTooLong(f"`{name}` did not end within {timeout_s:.0f} s") from error

    def _check(self) -> None:
        self._stop_signals.check()
        for server in self._servers:
            server.check()

    def _argv(self, command: Sequence[str]) -> list[str]:
        return [str(self._bin / command[0]), *command[1:]]

    def _show(self, command: Sequence[str], mark: str = "") -> None:
        self._console.print(
            f"[bold green]$[/] [bold]{escape(shlex.join(command))}{mark}[/]", highlight=False, soft_wrap=True
        )


def _environment(home: Path, programs: Path) -> dict[str, str]:
    """Return an environment in which no setting and no login of the person's own is found."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("VMBROKER_") and name not in {"BEARER_TOKEN", "BEARER_TOKEN_FILE"}
    }
    return kept | {
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "PATH": f"{programs}:{os.environ.get('PATH', '')}",
    }


def _name(command: Sequence[str]) -> str:
    return " ".join((Path(command[0]).name, *command[1:2]))


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


def _interrupt(process: "subprocess.Popen[bytes]") -> None:
    """End a foreground process as Ctrl-C does, so that it leaves the terminal tidy; SIGKILL if it does not heed it.

    Ctrl-C at the terminal has reached it already, and a second one would break into its tidying: so it gets a moment.
    """
    for number, patience_s in ((None, _SELF_STOP_S), (signal.SIGINT, _INTERRUPT_S), (signal.SIGKILL, _STOP_S)):
        if number is not None:
            process.send_signal(number)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
        break
    for pipe in (process.stdout, process.stderr):
        _close(pipe)


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        pipe.close()


def log_tail(log: Path) -> str:
    """Return the last lines of a server's log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])


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


def left_running_after_a_while(mark: str) -> list[str]:
    """Return what is left when a server that did not end as asked has been cleaned up after, or its time is over."""
    deadline_s = time.monotonic() + _GONE_S
    while (left := left_running(mark)) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    return left

"""Foreign programs: run with a deadline, their words kept in the build's log."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LOG_TAIL_LINES = 20
SETUP = "run deploy/setup/system-packages image"


class BuildFailed(Exception):
    """The image could not be built; the message is one sentence for a person.

    Attributes:
        log_tail: the last lines that the failing program wrote.
    """

    def __init__(self, message: str, log_tail: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.log_tail = tuple(log_tail)


def run(argv: Sequence[str | Path], log: Path, *, timeout_s: int = 120) -> None:
    """Runs a program to its end; both of its outputs are appended to `log`.

    Raises:
        BuildFailed: it is not installed, ended non-zero or took longer than `timeout_s`.
    """
    with log.open("ab") as output, _translated(argv, timeout_s, log):
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
            close_fds=False,  # the build's lock is theirs too
            start_new_session=True,
        )
        try:
            status = process.wait(timeout_s)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if status != 0:
            raise subprocess.CalledProcessError(status, argv)


def output_of(argv: Sequence[str | Path], *, timeout_s: int = 60) -> str:
    """What a program writes to its standard output.

    Raises:
        BuildFailed: as `run`.
    """
    with _translated(argv, timeout_s, log=None):
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=_environment(),
            check=True,
        ).stdout


def _environment() -> dict[str, str]:
    # mkfs and depmod are where an ordinary user's PATH does not lead.
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin", "LC_ALL": "C"}


@contextmanager
def _translated(argv: Sequence[str | Path], timeout_s: int, log: Path | None) -> Iterator[None]:
    """Turns subprocess's errors into BuildFailed."""
    program = Path(argv[0]).name
    try:
        yield
    except FileNotFoundError as error:
        raise BuildFailed(f"{program} is not installed: {SETUP}") from error
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"{program} took longer than {timeout_s} s", tail(log)) from error
    except subprocess.CalledProcessError as error:
        lines = tail(log) if log else str(error.stderr or "").splitlines()[-LOG_TAIL_LINES:]
        raise BuildFailed(f"{program} failed with status {error.returncode}", lines) from error


def tail(log: Path | None) -> list[str]:
    if log is None or not log.is_file():
        return []
    return log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]


def as_root() -> list[str]:
    """Words to put before a command that must own files of several accounts or change its root folder.

    For root there are none. An ordinary user becomes root of a user namespace where uid 0 is the user and the others
    are the user's subordinate ids: files of "root" made inside are the user's own outside.

    Raises:
        BuildFailed: the user has no subordinate ids, or newuidmap is not installed.
    """
    if os.geteuid() == 0:
        return []
    user = pwd.getpwuid(os.geteuid()).pw_name
    if shutil.which("newuidmap") is None:
        raise BuildFailed(f"newuidmap is not installed: {SETUP}")
    for table in (Path("/etc/subuid"), Path("/etc/subgid")):
        lines = table.read_text().splitlines() if table.exists() else []
        if not any(line.split(":")[0] in (user, str(os.geteuid())) for line in lines):
            raise BuildFailed(
                f"{user} has no range in {table}: ask root for "
                f"`usermod --add-subuids 200000-265535 --add-subgids 200000-265535 {user}`"
            )
    return ["unshare", "--map-root-user", "--map-auto", "--"]

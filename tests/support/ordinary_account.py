"""An ordinary account to run batch systems by, and programs built for it; what it left running is found and ended.

Root takes an account that every machine has. Daemons of an ordinary account cannot change the kernel's settings, become
somebody else, or reach another account's processes. Anybody but root runs them as himself.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.support.grid import REPOSITORY
from tests.support.waiting import wait_until

NAME: Final = "daemon" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_BUILD_LIMIT_S: Final = 600
_END_S: Final = 10


def words(environment: Mapping[str, str]) -> list[str]:
    """Return what to put before a command that the account is to run with these variables besides the caller's."""
    become = ["setpriv", f"--reuid={NAME}", f"--regid={_group()}", "--clear-groups"] if os.geteuid() == 0 else []
    return [*become, "env", *(f"{name}={value}" for name, value in environment.items())]


def make_folder(path: Path, mode: int = 0o755) -> Path:
    """Make a folder of the account's; one that is there becomes the account's."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    if os.geteuid() == 0:
        account = pwd.getpwnam(NAME)
        os.chown(path, account.pw_uid, account.pw_gid)
    return path


def write_file(path: Path, text: str) -> Path:
    """Write a file that the account can read, whatever the umask; its folder is the account's."""
    path.write_text(text)
    path.chmod(0o644)
    return path


def can_run_us() -> bool:
    """Tell whether the account may read this checkout and run its Python: root's folders are closed to others."""
    read = [*words({}), sys.executable, "-I", "-S", "-c", f"open({__file__!r})"]
    return subprocess.run(read, capture_output=True, timeout=60, check=False).returncode == 0


def make_private(path: Path) -> None:
    """Give a file to the account alone."""
    path.chmod(0o600)
    if os.geteuid() == 0:
        account = pwd.getpwnam(NAME)
        os.chown(path, account.pw_uid, account.pw_gid)


def programs(name: str, folder: Path) -> Path:
    """Return a tree of `deploy/image/build NAME` that the account can run, building it when it is not there.

    Root's cache is closed to others, so root gets a tree of links in `folder`, in place of what was there.
    """
    command = [str(REPOSITORY / "deploy" / "image" / "build"), name, "--print-path"]
    built = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_LIMIT_S, check=False)
    assert built.returncode == 0, built.stderr
    tree = Path(built.stdout.strip())
    if os.geteuid() != 0:
        return tree
    shutil.rmtree(folder, ignore_errors=True)
    copy = ["cp", "--archive", "--link", str(tree), str(folder)]
    if tree.stat().st_dev != folder.parent.stat().st_dev:
        copy.remove("--link")
    subprocess.run(copy, check=True, timeout=60)
    return folder


def marked_processes(*marks: str) -> list[int]:
    """Return the running processes that were started with a variable that begins as one of `marks`: `NAME=begin`."""
    pids = [int(folder.name) for folder in Path("/proc").glob("[1-9]*")]
    return [pid for pid in pids if any(entry.startswith(marks) for entry in _environment(pid))]


def command_line(pid: int) -> list[str]:
    """Return a process's words, or none when it has ended."""
    return _strings(pid, "cmdline")


def end_all(find: Callable[[], list[int]], what: str) -> None:
    """Kill the processes that `find` finds until it finds none; fail naming `what` when they do not end."""

    def none_left() -> bool:
        left = find()
        for pid in left:
            send(pid, signal.SIGKILL)
        return not left

    wait_until(none_left, f"the end of {what}", timeout_s=_END_S)


def send(pid: int, signum: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return


def _group() -> int:
    return pwd.getpwnam(NAME).pw_gid


def _environment(pid: int) -> list[str]:
    return _strings(pid, "environ")


def _strings(pid: int, file: str) -> list[str]:
    try:
        content = Path(f"/proc/{pid}/{file}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
    return content.decode(errors="replace").split("\0")[:-1]

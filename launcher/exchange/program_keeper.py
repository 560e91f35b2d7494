"""Runs one program in namespaces that end with it, and with the launcher, however that ended.

It runs as a program of its own (`python -I -S program_keeper.py JSON -- PROGRAM ...`), standard library only. It makes
empty network and IPC namespaces and a PID namespace; pid 1 in there changes one process to the account, gives it its
limits, and starts the program in it. The kernel kills everything in a PID namespace whose pid 1 is gone: pid 1 follows
this process, this one the launcher. An ordinary user's namespaces hang below a user namespace that maps this one user.

Source: pid_namespaces(7), user_namespaces(7), prctl(2).
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

NOT_STARTED: Final = 127
SIGNALLED: Final = 128
"""Added to a signal's number, as a shell does."""

# <linux/sched.h>
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
# <linux/mount.h>
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
# <linux/prctl.h>
PR_SET_PDEATHSIG: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38

libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _follow_parent() -> None:
    _check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "following the parent process")


def unshare_namespaces() -> None:
    """Enter new namespaces; the PID namespace holds for children only."""
    flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _check(libc.unshare(flags), "making namespaces")
        return
    _check(libc.unshare(flags | CLONE_NEWUSER), "making namespaces without privileges")
    # gid_map may be written without privileges only once setgroups is denied: user_namespaces(7).
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib doubles the start-up time
            file.write(text)


def arrange_mounts() -> None:
    """Show no processes in /proc but this namespace's own."""
    _check(libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "keeping mounts apart")
    # In a container whose own /proc is masked the kernel refuses a fresh one: the account's other processes stay seen.
    with contextlib.suppress(PermissionError):
        flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV | MS_NOEXEC)
        _check(libc.mount(b"proc", b"/proc", b"proc", flags, None), "mounting /proc")


def become_program(plan: dict[str, Any], command: list[str]) -> NoReturn:
    if os.geteuid() == 0:
        os.setgroups(plan["groups"])
        os.setresgid(plan["gid"], plan["gid"], plan["gid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    for kind, limit in plan["limits"]:
        # At the hard limit of processor time it is SIGKILL, which could be anybody's; a second earlier it is SIGXCPU.
        resource.setrlimit(kind, (limit, limit + (kind == resource.RLIMIT_CPU)))
    # Python ignores them, and a program would inherit that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "giving up new privileges")
    os.execvp(command[0], command)  # noqa: S606 - a program of the launcher's choice, and no shell


def keep(alive: int, plan: dict[str, Any], command: list[str]) -> int:
    """Pid 1: everything in here dies when it returns. `alive` ends when the parent does."""
    _follow_parent()
    if select.select([alive], [], [], 0)[0]:
        return NOT_STARTED
    arrange_mounts()
    pid = os.fork()
    if pid == 0:
        os._exit(reported(lambda: become_program(plan, command)))
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return exit_status(status)


def exit_status(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else SIGNALLED - code


def reported(work: Callable[[], int]) -> int:
    """Return the work's status; an error is written to stderr, and is `NOT_STARTED`."""
    try:
        return work()
    except BaseException as error:  # noqa: BLE001 - a forked child must never return into its parent's code
        os.write(2, f"{getattr(error, 'strerror', None) or error}\n".encode())
        return NOT_STARTED


def run(plan: dict[str, Any], command: list[str]) -> int:
    alive, held = os.pipe()
    unshare_namespaces()
    pid = os.fork()
    if pid == 0:
        os.close(held)
        os._exit(reported(lambda: keep(alive, plan, command)))
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGKILL))
    # The kernel lets pid 1 be collected only after every other process of its namespace has died.
    return exit_status(os.waitpid(pid, 0)[1])


def main() -> int:
    """Run the command behind `--` as the plan given as JSON says; ends as the program does, SIGTERM ends both."""
    plan, command = json.loads(sys.argv[1]), sys.argv[3:]
    _follow_parent()
    if os.getppid() != plan["launcher"]:
        return NOT_STARTED
    return reported(lambda: run(plan, command))


if __name__ == "__main__":
    sys.exit(main())

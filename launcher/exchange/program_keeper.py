"""Runs one program in namespaces that end with it, and with the launcher, however that ended.

It runs as a program of its own (`python -I -S program_keeper.py JSON -- PROGRAM ...`), by the standard library and
`launcher.kernel` alone. It makes empty network and IPC namespaces and a PID namespace; pid 1 in there changes one
process to the account, gives it its limits, and starts the program in it. The kernel kills everything in a PID
namespace whose pid 1 is gone: pid 1 follows this process, this one the launcher.

Source: pid_namespaces(7), user_namespaces(7), prctl(2).
"""

import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

if __name__ == "__main__":
    # `-I` and `-S` leave out the folder of our own packages. pathlib would double the start-up time.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from launcher import kernel

NOT_STARTED: Final = 127
SIGNALLED: Final = 128
"""Added to a signal's number, as a shell does."""


def become_program(plan: dict[str, Any], command: list[str]) -> NoReturn:
    kernel.become(plan["uid"], plan["gid"], plan["groups"])
    for kind, limit in plan["limits"]:
        # At the hard limit of processor time it is SIGKILL, which could be anybody's; a second earlier it is SIGXCPU.
        resource.setrlimit(kind, (limit, limit + (kind == resource.RLIMIT_CPU)))
    # Python ignores them, and a program would inherit that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    kernel.give_up_new_privileges()
    os.execvp(command[0], command)  # noqa: S606 - a program of the launcher's choice, and no shell


def keep(alive: int, plan: dict[str, Any], command: list[str]) -> int:
    """Pid 1: everything in here dies when it returns. `alive` ends when the parent does."""
    kernel.follow_parent()
    if select.select([alive], [], [], 0)[0]:
        return NOT_STARTED
    kernel.keep_mounts_apart()
    kernel.mount_proc()
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
    kernel.unshare_all()
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
    kernel.follow_parent()
    if os.getppid() != plan["launcher"]:
        return NOT_STARTED
    return reported(lambda: run(plan, command))


if __name__ == "__main__":
    sys.exit(main())

"""Starts virtiofsd as root of a user namespace whose one id is the account's, and ends with it.

It runs as a program of its own (`python -I -S virtiofsd_keeper.py JSON`), by the standard library and
`launcher.kernel` alone. Root of this node is needed to let the namespace change its groups, which virtiofsd insists on;
an ordinary user gets a namespace all the same, and finds out whether its virtiofsd can do without.

Source: user_namespaces(7), "Defining user and group ID mappings"; prctl(2).
"""

import json
import os
import signal
import sys
from typing import Any, NoReturn

if __name__ == "__main__":
    # `-I` and `-S` leave out the folder of our own packages. pathlib would double the start-up time.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from launcher import kernel


def map_ids(pid: int, plan: dict[str, Any]) -> None:
    """Make the account root in the process's namespace."""
    if os.geteuid() != 0:
        with open(f"/proc/{pid}/setgroups", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib doubles the start-up time
            file.write("deny")
    for name, number in (("uid_map", plan["uid"]), ("gid_map", plan["gid"])):
        with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib doubles the start-up time
            file.write(f"0 {number} 1")


def follow(parent: int, signal_number: int) -> None:
    """Have this process sent the signal when its parent ends; a parent that has ended already is an error."""
    kernel.follow_parent(signal_number)
    if os.getppid() != parent:
        raise OSError("the parent process has ended")


def become_virtiofsd(plan: dict[str, Any], keeper: int, unshared: int, mapped: int) -> NoReturn:
    kernel.become(plan["uid"], plan["gid"], [])
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWNET)
    os.write(unshared, b".")
    if not os.read(mapped, 1):
        raise OSError("the ids of the namespace could not be mapped")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    kernel.keep_mounts_apart()
    # virtiofsd keeps a lock file below /run, which is root's.
    kernel.mount("tmpfs", "/run", "tmpfs", kernel.HARMLESS)
    os.umask(0o077)
    follow(keeper, signal.SIGKILL)
    kernel.give_up_new_privileges()
    os.execve(plan["argv"][0], plan["argv"], {"PATH": plan["path"], "LC_ALL": "C"})  # noqa: S606 - a fixed program, and no shell


def main() -> int | str:
    """Run the plan given as JSON in the first argument; ends as virtiofsd does, SIGTERM ends both."""
    plan = json.loads(sys.argv[1])
    # A launcher that dies takes this with it, and this its virtiofsd.
    try:
        follow(plan["launcher"], signal.SIGTERM)
    except OSError as error:
        return f"virtiofsd's keeper: {error}"
    keeper = os.getpid()
    unshared_read, unshared = os.pipe()
    mapped, mapped_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(mapped_write)
        try:
            become_virtiofsd(plan, keeper, unshared, mapped)
        except BaseException as error:  # noqa: BLE001 - a forked child must never return into its parent's code
            os.write(2, f"{error}\n".encode())
        os._exit(127)
    # Its virtiofsd would be killed after this anyway; here it is waited for as well.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGKILL))
    os.close(unshared)
    if os.read(unshared_read, 1):
        map_ids(pid, plan)
        os.write(mapped_write, b".")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main())

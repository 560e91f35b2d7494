"""Starts virtiofsd as root of a user namespace whose one id is the account's, and ends with it.

It runs as a program of its own (`python -I -S virtiofsd_keeper.py JSON`), standard library only. Root of this node is
needed to let the namespace change its groups, which virtiofsd insists on; an ordinary user gets a namespace all the
same, and finds out whether its virtiofsd can do without.

Source: user_namespaces(7), "Defining user and group ID mappings"; prctl(2).
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any, Final, NoReturn

# <linux/sched.h>
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
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


def map_ids(pid: int, plan: dict[str, Any]) -> None:
    """Make the account root in the process's namespace."""
    if os.geteuid() != 0:
        with open(f"/proc/{pid}/setgroups", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib doubles the start-up time
            file.write("deny")
    for name, number in (("uid_map", plan["uid"]), ("gid_map", plan["gid"])):
        with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(f"0 {number} 1")


def follow(parent: int, signal_number: int) -> None:
    """Have this process sent the signal when its parent ends; a parent that has ended already is an error."""
    _check(libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "following the parent process")
    if os.getppid() != parent:
        raise OSError("the parent process has ended")


def become_virtiofsd(plan: dict[str, Any], keeper: int, unshared: int, mapped: int) -> NoReturn:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(plan["gid"], plan["gid"], plan["gid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    _check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET), "making namespaces")
    os.write(unshared, b".")
    if not os.read(mapped, 1):
        raise OSError("the ids of the namespace could not be mapped")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _check(libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "keeping mounts apart")
    # virtiofsd keeps a lock file below /run, which is root's.
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _check(libc.mount(b"tmpfs", b"/run", b"tmpfs", flags, None), "mounting an empty /run")
    os.umask(0o077)
    follow(keeper, signal.SIGKILL)
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "giving up new privileges")
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

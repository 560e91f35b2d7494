"""The kernel's namespaces, mounts and process controls, for the programs that keep others' processes.

Those run as programs of their own, `python -I -S FILE`, and get here by a path that they add themselves: so this
imports the standard library alone, and of that only what they need anyway.

Source: namespaces(7), user_namespaces(7), mount(2), prctl(2).
"""

import contextlib
import ctypes
import os
import signal
from typing import Final

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
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
# <linux/prctl.h>
PR_SET_PDEATHSIG: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38

HARMLESS: Final = MS_NOSUID | MS_NODEV | MS_NOEXEC

_libc: Final = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Enter new namespaces; the PID namespace holds for children only."""
    _check(_libc.unshare(flags), "making namespaces")


def unshare_all() -> None:
    """Enter new mount, IPC, PID and network namespaces; an ordinary user's hang below one that maps this one user."""
    flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        unshare(flags)
        return
    unshare(flags | CLONE_NEWUSER)
    # gid_map may be written without privileges only once setgroups is denied: user_namespaces(7).
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib doubles the start-up time
            file.write(text)


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    fs_type = kind.encode() if kind else None
    result = _libc.mount(source.encode(), target.encode(), fs_type, ctypes.c_ulong(flags), None)
    _check(result, f"mounting {source} on {target}")


def keep_mounts_apart() -> None:
    """Let what is mounted here be seen nowhere else, and the other way round."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def mount_proc() -> None:
    """Show this PID namespace's processes in /proc, and no others."""
    # In a container whose own /proc is masked the kernel refuses a fresh one; who works here does without.
    with contextlib.suppress(PermissionError):
        mount("proc", "/proc", "proc", HARMLESS)


def follow_parent(signal_number: int = signal.SIGKILL) -> None:
    """Have this process sent the signal when its parent ends; a change of the effective uid cancels it."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "following the parent process")


def give_up_new_privileges() -> None:
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "giving up new privileges")


def become(uid: int, gid: int, groups: list[int]) -> None:
    """Change root's process to another account for good; does nothing for an ordinary user."""
    if os.geteuid() == 0:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")

"""The keeper: pid 1 of the namespaces in which a launcher's own libvirtd and every QEMU of it live.

It runs as a program of its own (`python -I -S keeper.py JSON`), by the standard library and `launcher.kernel` alone,
and does four things: it unshares the namespaces and forks their pid 1; hides there what the guests must not see; hands
the launcher a socket that listens *inside*; and starts libvirtd, again when it dies or the launcher says that it does
not answer, and reaps whatever is orphaned.

A libvirtd that died takes no QEMU with it: the next one, in the same namespaces, finds them by what the first one wrote
of each before it ran. One that dies again and again is given up, and everything with it.

What is authoritative is the control socket: the launcher alone holds its other end, so its end of file means that the
launcher is gone, however it died. The keeper then exits, and the kernel kills everything in a PID namespace whose pid 1
has exited. No later launcher, no timeout and no signal handler is part of that promise.

As root the namespaces are made with root's own privileges and only libvirtd's process changes to the unprivileged
account; for an ordinary user they hang below a user namespace that maps this one user. In both cases libvirtd and QEMU
run without any capability.

Source: namespaces(7), pid_namespaces(7), user_namespaces(7).
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Any, Final, NoReturn

if __name__ == "__main__":
    # `-I` and `-S` leave out the folder of our own packages. pathlib would double the start-up time.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from launcher import kernel

# <linux/sockios.h>, <linux/if.h>
SIOCGIFFLAGS: Final = 0x8913
SIOCSIFFLAGS: Final = 0x8914
IFF_UP: Final = 0x1
IFREQ: Final = struct.Struct("16sH22x")

KVM_DEVICE: Final = "/dev/kvm"
BACKLOG: Final = 128
MESSAGE_BYTES: Final = 64
MAX_RESTARTS: Final = 3
RESTART_WINDOW_S: Final = 600.0
LOOK_S: Final = 5.0  # a libvirtd that is to end removes its socket first, and may then hang for ever
POLL_S: Final = 0.02  # between two tries to connect while libvirtd starts; it takes some 0.2 s

NO_NAMESPACES: Final = (
    "this node does not let the launcher make namespaces for its own libvirtd ({error}): ask its administrator for "
    "unprivileged user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or "
    "for a launcher that runs as root"
)


class Refused(Exception):
    """This node or folder does not allow it: trying again changes nothing."""


class LauncherGone(Exception):
    """Nobody holds the other end of the control socket."""


class NotUp(RuntimeError):
    """A libvirtd that was started does not listen."""


def arrange_mounts(folder: str, *, show_kvm: bool) -> None:
    """Show this PID namespace's processes in /proc, and no /dev/kvm unless it works."""
    kernel.keep_mounts_apart()
    kernel.mount_proc()
    if not show_kvm and os.path.exists(KVM_DEVICE):  # noqa: PTH110 - pathlib would double the start-up time
        # An unreadable file tells libvirt at once that there is no KVM.
        cover = f"{folder}/no-kvm"
        os.close(os.open(cover, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0))
        kernel.mount(cover, KVM_DEVICE, None, kernel.MS_BIND)


def open_listener(port: int) -> socket.socket:
    """Bring the empty network's `lo` up and listen on it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _, flags = IFREQ.unpack(fcntl.ioctl(control, SIOCGIFFLAGS, IFREQ.pack(b"lo", 0)))
        fcntl.ioctl(control, SIOCSIFFLAGS, IFREQ.pack(b"lo", flags | IFF_UP))
    return socket.create_server(("127.0.0.1", port), backlog=BACKLOG)


def check_reachable(folder: str, uid: int, gid: int) -> None:
    """Say so if libvirtd's account cannot work in its own folder."""
    if os.geteuid() != 0:
        return
    os.setegid(gid)
    os.seteuid(uid)
    try:
        reachable = os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
    finally:
        os.seteuid(0)
        os.setegid(0)
    if not reachable:
        raise Refused(
            f"the account that runs QEMU (uid {uid}) cannot reach {folder}: "
            "choose a scratch folder below folders that everybody may enter"
        )


def start_daemon(plan: dict[str, Any]) -> int:
    """Start libvirtd as its account, without capabilities, with nothing of the launcher's environment."""
    pid = os.fork()
    if pid:
        return pid
    try:
        _become_daemon(plan)
    except BaseException as error:  # noqa: BLE001 - a forked child must never return into its parent's code
        os.write(2, f"starting {plan['argv'][0]}: {error}\n".encode())
    os._exit(127)


def _become_daemon(plan: dict[str, Any]) -> NoReturn:
    os.setsid()
    os.umask(0o077)
    kernel.become(plan["uid"], plan["gid"], plan["groups"])
    kernel.give_up_new_privileges()
    os.execve(plan["argv"][0], plan["argv"], plan["environment"])  # noqa: S606 - a fixed program, and no shell


def is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def reap(daemon_pid: int) -> int | None:
    """Collect dead children; returns libvirtd's wait status once it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == daemon_pid:
            return status


def wait_listening(control: socket.socket, daemon_pid: int, path: str, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not is_listening(path):
        status = reap(daemon_pid)
        if status is not None:
            raise NotUp(f"libvirtd ended at once with status {os.waitstatus_to_exitcode(status)}")
        if time.monotonic() > deadline:
            os.kill(daemon_pid, signal.SIGKILL)
            raise NotUp(f"libvirtd did not listen on its socket within {limit_s:g} s")
        if select.select([control], [], [], POLL_S)[0]:
            check_launcher(control)


def check_launcher(control: socket.socket) -> None:
    """Take what the launcher says, which can only be that libvirtd is to be started again; blocks until it speaks."""
    if not control.recv(MESSAGE_BYTES):
        raise LauncherGone


def end_strays(folder: str) -> None:
    """Kill what the dead libvirtd left of which the next one will not know, such as a QEMU that it was asking."""
    if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115 - as above
        return  # not this namespace's /proc: see arrange_mounts
    known = {os.getpid(), *noted_pids(f"{folder}/run/libvirt/qemu/run")}
    for name in os.listdir("/proc"):  # noqa: PTH208 - as above
        if name.isdigit() and int(name) not in known:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(name), signal.SIGKILL)


def noted_pids(folder: str) -> set[int]:
    """Return the processes that libvirt has noted, a file each; the folder is libvirtd's account's to fill."""
    pids = set()
    for name in os.listdir(folder) if os.path.isdir(folder) else ():  # noqa: PTH112, PTH208 - as above
        if not name.endswith(".pid"):
            continue
        with contextlib.suppress(OSError, ValueError):
            file = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                pids.add(int(os.read(file, 20)))
            finally:
                os.close(file)
    return pids


def watch(control: socket.socket, plan: dict[str, Any], daemon_pid: int) -> str:
    """Reap, and start libvirtd again, until it dies too often, before or after it listens.

    Returns what to tell the launcher.

    Raises:
        LauncherGone: It is gone.
    """
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    restarted_at_s: list[float] = []
    reason = wait_daemon(control, wake_read, daemon_pid, plan["socket"])
    while True:
        now_s = time.monotonic()
        restarted_at_s = [at_s for at_s in restarted_at_s if at_s > now_s - RESTART_WINDOW_S]
        if len(restarted_at_s) == MAX_RESTARTS:
            return f"{reason}, and was started again {MAX_RESTARTS} times in the last {RESTART_WINDOW_S:g} s"
        restarted_at_s.append(now_s)
        end_strays(plan["folder"])
        daemon_pid = start_daemon(plan)
        try:
            wait_listening(control, daemon_pid, plan["socket"], plan["start_limit_s"])
        except NotUp as error:
            reason = str(error)
            continue
        tell(control, {"state": "restarted", "reason": reason})
        reason = wait_daemon(control, wake_read, daemon_pid, plan["socket"])


def wait_daemon(control: socket.socket, wake_fd: int, daemon_pid: int, path: str) -> str:
    """Reap until libvirtd has died, and return why.

    One whose socket is gone for a while is killed, and so is one that the launcher gets no answer from.

    Raises:
        LauncherGone: There is nobody to keep it for.
    """
    missed = False
    why = "libvirtd"
    while True:
        status = reap(daemon_pid)
        if status is not None:
            return f"{why} ended with status {os.waitstatus_to_exitcode(status)}"
        ready, _, _ = select.select([control.fileno(), wake_fd], [], [], LOOK_S)
        if control.fileno() in ready:
            check_launcher(control)
            why = "libvirtd, which did not answer the launcher and was killed,"
            os.kill(daemon_pid, signal.SIGKILL)
        elif wake_fd in ready:
            os.read(wake_fd, 4096)
        elif os.path.exists(path):  # noqa: PTH110 - as above
            missed = False
        elif missed:
            os.kill(daemon_pid, signal.SIGKILL)
        else:
            missed = True


def tell(control: socket.socket, message: dict[str, str], fds: list[int] | None = None) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody is left to be told
        socket.send_fds(control, [json.dumps(message).encode()], fds or [])


def keep(control: socket.socket, plan: dict[str, Any]) -> None:
    """Pid 1: returns when everything in here is to die."""
    try:
        try:
            arrange_mounts(plan["folder"], show_kvm=plan["show_kvm"])
        except PermissionError as error:
            raise Refused(NO_NAMESPACES.format(error=error)) from error
        check_reachable(plan["folder"], plan["uid"], plan["gid"])
        # Not before: a change of the effective uid, as in that check, cancels it (prctl(2)).
        kernel.follow_parent()
        with open_listener(plan["listen_port"]) as listener:
            daemon_pid = start_daemon(plan)
            wait_listening(control, daemon_pid, plan["socket"], plan["start_limit_s"])
            tell(control, {"state": "ready"}, [listener.fileno()])
        tell(control, {"state": "ended", "reason": watch(control, plan, daemon_pid)})
    except Refused as error:
        tell(control, {"state": "refused", "reason": str(error)})
    except LauncherGone:
        pass
    except (OSError, RuntimeError) as error:
        tell(control, {"state": "failed", "reason": str(error)})
    finally:
        control.close()


def remove_short_name(name: str) -> None:
    """Remove the symbolic link that a killed launcher cannot remove itself."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name)  # noqa: PTH108 - pathlib would double the start-up time


def main() -> int:
    """Run the plan given as JSON in the first argument; the control socket's number is in it."""
    plan = json.loads(sys.argv[1])
    control = socket.socket(fileno=plan["control_fd"])
    control.set_inheritable(False)
    try:
        kernel.unshare_all()
    except OSError as error:
        tell(control, {"state": "refused", "reason": NO_NAMESPACES.format(error=error)})
        return 1
    pid = os.fork()
    if pid == 0:
        keep(control, plan)
        os._exit(0)
    control.close()
    # A batch system that signals every process of the job means the launcher, which decides what becomes of its VMs.
    for ignored in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    # The kernel lets pid 1 be collected only after every other process of its namespace has died: pid_namespaces(7).
    status = os.waitpid(pid, 0)[1]
    if plan["short_name"]:
        remove_short_name(plan["short_name"])
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())

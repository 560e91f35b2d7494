"""A libvirtd of the launcher's own, in namespaces of its own, that cannot outlive the launcher.

`keeper` is the other half of this module and holds the theory.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import structlog

from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import HypervisorError, Unavailable
from launcher.hypervisor.short_names import short_name
from launcher.interpreter import own_python
from launcher.packages import Part, lacks

log = structlog.get_logger()

PROXY_PORT: Final = 3128
START_LIMIT_S: Final = 30.0
CLOSE_LIMIT_S: Final = 10.0
RESTART_LIMIT_S: Final = 60.0
RESTART: Final = b"restart"
MESSAGE_BYTES: Final = 64 * 1024
LOG_TAIL_BYTES: Final = 600

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

LIBVIRTD_CONF: Final = """\
unix_sock_dir = "{sockets}"
auth_unix_rw = "none"
auth_unix_ro = "none"
# A launcher that its batch system suspends must find its VMs when it goes on; the keeper notices a dead one at once.
keepalive_interval = -1
log_outputs = "4:stderr"
"""
QEMU_CONF: Final = """\
# No virtlogd: QEMU writes its own log.
stdio_handler = "file"
# A guest's memory never becomes a file on the node.
dump_guest_core = 0
"""


class PrivateDaemon:
    """A running libvirtd in its own mount, network, PID and IPC namespaces.

    Attributes:
        uri: Where `Hypervisor` reaches it.
        listener: Listens on 127.0.0.1:3128 of the guests' network, which a guest on a user-mode interface sees as
            10.0.2.2:3128. It is the one way out of that network, and the caller's to serve.
        socket_folder: Belongs to QEMU's account; short enough for Unix sockets whose names have up to 59 bytes.
        log_folder: Where libvirt keeps a log for each VM, until somebody removes it; there from the first VM on.
    """

    def __init__(self, folder: Path, listener: socket.socket, control: socket.socket) -> None:
        self.listener = listener
        self._control = control
        self._restarted = asyncio.Event()
        self.socket_folder = folder / "sockets"
        self.log_folder = folder / "cache" / "libvirt" / "qemu" / "log"
        self.uri = f"qemu+unix:///session?socket={quote(str(_libvirt_socket(folder)))}"
        self._ended = asyncio.create_task(self._read_end())

    async def wait_ended(self) -> str:
        """Wait until libvirtd, and with it every VM, has ended for good; returns why.

        One that dies is started again by its keeper, and its VMs live on, until it dies too often.
        """
        return await asyncio.shield(self._ended)

    async def restart(self, reason: str) -> bool:
        """Have a libvirtd that does not answer killed and started again; its VMs live on.

        Returns whether another one listens: if not, none was left to be started, or it takes too long.
        """
        if self._ended.done():
            return False
        log.warning("libvirtd_silent", reason=reason)
        self._restarted.clear()
        restarted = asyncio.create_task(self._restarted.wait())
        try:
            await asyncio.get_running_loop().sock_sendall(self._control, RESTART)
            await asyncio.wait({restarted, self._ended}, timeout=RESTART_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
        except OSError:  # nobody keeps it any more, as `wait_ended` tells
            return False
        finally:
            restarted.cancel()
        return self._restarted.is_set() and not self._ended.done()

    async def close(self) -> None:
        """Listen to the keeper no more."""
        self._ended.cancel()
        await asyncio.wait([self._ended])

    async def _read_end(self) -> str:
        while True:
            line = await asyncio.get_running_loop().sock_recv(self._control, MESSAGE_BYTES)
            if not line:
                return "the private libvirtd's keeper was killed"
            told = json.loads(line)
            if told["state"] != "restarted":
                return str(told["reason"])
            log.warning("libvirtd_restarted", reason=told["reason"])
            self._restarted.set()


@contextlib.asynccontextmanager
async def private_daemon(
    folder: Path, account: Account, *, show_kvm: bool, listen_port: int = PROXY_PORT
) -> AsyncIterator[PrivateDaemon]:
    """Run libvirtd for the time of an `async with`; at its end every process inside is killed.

    The same happens when this process dies in any way, SIGKILL included. (A process forked from this one without exec
    would keep everything inside alive.)

    Args:
        folder: Emptied, then used for configuration, sockets and logs; becomes the account's. One launcher at a time.
        account: Who libvirtd and QEMU run as.
        show_kvm: Whether /dev/kvm is seen inside. One that opens and does not work costs libvirt 44 s for every VM.
        listen_port: Of the guests' way out.

    Raises:
        HypervisorError: This node or folder does not allow it; the text says what to change.
        Unavailable: libvirtd did not come up.
    """
    program = shutil.which("libvirtd", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    if program is None:
        raise HypervisorError(lacks("libvirtd", Part.LIBVIRTD))
    folder = folder.absolute()
    with _locked(folder), short_name(folder) as short, contextlib.ExitStack() as sockets:
        await asyncio.to_thread(_prepare, folder, short, account)
        control, far_end = socket.socketpair(type=socket.SOCK_SEQPACKET)
        sockets.enter_context(control)
        with far_end:
            plan = _plan(program, folder, short, account, show_kvm=show_kvm, listen_port=listen_port)
            process = await _start_keeper(plan, folder, far_end)
        try:
            listener = sockets.enter_context(await _wait_ready(control, folder))
            daemon = PrivateDaemon(short, listener, control)
            try:
                yield daemon
            finally:
                await daemon.close()
        finally:
            control.close()
            await _wait_gone(process)


def _libvirt_socket(folder: Path) -> Path:
    return folder / "sockets" / "libvirt-sock"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise HypervisorError(
            f"another launcher runs its libvirtd in {folder}: give each launcher its own scratch folder"
        ) from None
    finally:
        os.close(descriptor)


def _prepare(folder: Path, short: Path, account: Account) -> None:
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
    for name in ("etc", "etc/libvirt", "cache", "data", "run", "sockets", "tmp"):
        (folder / name).mkdir(mode=0o700)
        account.take(folder / name)
    texts = {"libvirtd.conf": LIBVIRTD_CONF.format(sockets=short / "sockets"), "etc/libvirt/qemu.conf": QEMU_CONF}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        account.take(folder / name)
    account.take(folder)


def _plan(
    program: str, folder: Path, short: Path, account: Account, *, show_kvm: bool, listen_port: int
) -> dict[str, Any]:
    """What `keeper.main` is told. Nothing of the launcher's environment gets in: it may hold a token."""
    return {
        "argv": [program, "-f", f"{short}/libvirtd.conf", "-p", f"{short}/sockets/libvirtd.pid"],
        "environment": {
            "PATH": SYSTEM_PATH,
            "LC_ALL": "C",
            "HOME": str(short),
            "TMPDIR": str(short / "tmp"),
            "XDG_RUNTIME_DIR": f"{short}/run",
            "XDG_CACHE_HOME": f"{short}/cache",
            "XDG_CONFIG_HOME": f"{short}/etc",
            "XDG_DATA_HOME": f"{short}/data",
        },
        "folder": str(folder),
        "short_name": None if short == folder else str(short),
        "socket": str(_libvirt_socket(short)),
        "uid": account.uid,
        "gid": account.gid,
        "groups": account.groups,
        "show_kvm": show_kvm,
        "listen_port": listen_port,
        "start_limit_s": START_LIMIT_S,
    }


async def _start_keeper(plan: dict[str, Any], folder: Path, far_end: socket.socket) -> asyncio.subprocess.Process:
    keeper = Path(__file__).with_name("keeper.py")
    plan = plan | {"control_fd": far_end.fileno()}
    with (folder / "libvirtd.log").open("ab") as log:
        # A session of its own, so that Ctrl-C at a terminal reaches the launcher alone.
        return await asyncio.create_subprocess_exec(
            *(*own_python(), "-I", "-S", str(keeper), json.dumps(plan)),
            pass_fds=[far_end.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={},
            start_new_session=True,
        )


async def _wait_ready(control: socket.socket, folder: Path) -> socket.socket:
    control.setblocking(False)
    try:
        # The keeper keeps its own, shorter deadline.
        async with asyncio.timeout(START_LIMIT_S + CLOSE_LIMIT_S):
            await _wait_readable(control)
    except TimeoutError:
        raise Unavailable(f"the private libvirtd's keeper does not answer{_log_tail(folder)}") from None
    line, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 1)
    if descriptors:
        return socket.socket(fileno=descriptors[0])
    if not line:
        raise Unavailable(f"the private libvirtd's keeper died while starting it{_log_tail(folder)}")
    answer = json.loads(line)
    if answer["state"] == "refused":
        raise HypervisorError(answer["reason"])
    raise Unavailable(f"the private libvirtd did not start: {answer['reason']}{_log_tail(folder)}")


async def _wait_readable(control: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(control, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(control)


async def _wait_gone(process: asyncio.subprocess.Process) -> None:
    """Wait for the keeper, whose control socket is closed by now; kill it if it does not go."""
    try:
        async with asyncio.timeout(CLOSE_LIMIT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _log_tail(folder: Path) -> str:
    text = (folder / "libvirtd.log").read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
    return f"; the end of its log: {text}" if text else ""

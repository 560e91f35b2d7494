"""A libvirtd that stands for a site's: outside of every launcher, started, killed and started again by a test."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import wait_until

# A session daemon must not be root's, for that one would be the machine's.
ACCOUNT = "libvirt-qemu" if os.geteuid() == 0 else None
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_START_S = 30
_CONF = """\
unix_sock_dir = "{folder}/sockets"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "4:stderr"
"""


class SiteLibvirt:
    """The daemon of one folder; at the end of `site_libvirt` neither it nor a QEMU of it is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("sockets", "etc/libvirt", "cache", "data", "run", "tmp"):
            (folder / name).mkdir(parents=True)
        (folder / "libvirtd.conf").write_text(_CONF.format(folder=folder))
        (folder / "etc" / "libvirt" / "qemu.conf").write_text('stdio_handler = "file"\n')
        if ACCOUNT is not None:
            for path in (folder, *folder.rglob("*")):
                shutil.chown(path, ACCOUNT, pwd.getpwnam(ACCOUNT).pw_gid)

    @property
    def uri(self) -> str:
        return f"qemu+unix:///session?socket={self._socket}"

    @property
    def _socket(self) -> Path:
        return self.folder / "sockets" / "libvirt-sock"

    def start(self) -> None:
        self._socket.unlink(missing_ok=True)
        become = [] if ACCOUNT is None else ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--init-groups"]
        program = shutil.which("libvirtd", path=_PATH)
        assert program is not None
        home = {f"XDG_{kind}": str(self.folder / name) for kind, name in _XDG}
        self._process = subprocess.Popen(
            [*become, program, "-f", str(self.folder / "libvirtd.conf"), "-p", str(self.folder / "libvirtd.pid")],
            env={"PATH": _PATH, "LC_ALL": "C", "HOME": str(self.folder), "TMPDIR": str(self.folder / "tmp"), **home},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self._socket.exists, "the site's libvirtd listens", timeout_s=_START_S)

    def kill(self) -> None:
        """Kill it as a crash would: its QEMUs go on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def qemus(self) -> list[int]:
        """Return the processes of this daemon's vms, by its folder in their command lines."""
        pids = [int(folder.name) for folder in Path("/proc").glob("[1-9]*")]
        return [pid for pid in pids if self._is_qemu(pid)]

    def _is_qemu(self, pid: int) -> bool:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return b"qemu-system" in words.partition(b"\0")[0] and f"{self.folder}/etc/".encode() in words

    def end(self) -> None:
        """End it and whatever runs of it."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        for pid in self.qemus():
            os.kill(pid, signal.SIGKILL)


_XDG = (("RUNTIME_DIR", "run"), ("CACHE_HOME", "cache"), ("CONFIG_HOME", "etc"), ("DATA_HOME", "data"))


@contextmanager
def site_libvirt(folder: Path) -> Iterator[SiteLibvirt]:
    """Run a site's libvirtd in `folder`, whose path must be short, for the time of the block."""
    site = SiteLibvirt(folder)
    site.start()
    try:
        yield site
    finally:
        site.end()

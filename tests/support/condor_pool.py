"""A real HTCondor pool on loopback, of one ordinary account: `python -m tests.support.condor_pool FOLDER`.

Its daemons are those of `deploy/image/build htcondor`. The account is the pool's user, administrator and worker, and
shows who it is by a file in /tmp (FS): its commands and its Python bindings need no token.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tests.support import ordinary_account
from tests.support.by_hand import keep_up
from tests.support.grid import free_port
from tests.support.waiting import wait_until

ABILITY: Final = "CAN_RUN_VIRTUAL_MACHINE"
Daemon = Literal["master", "shared_port", "collector", "negotiator", "schedd", "startd", "shadow", "starter"]
_START_S: Final = 30
_RECONFIGURE_S: Final = 20
_STOP_S: Final = 5
_TOOL_LIMIT_S: Final = 60
_LOG_TAIL_LINES: Final = 25

_COMMON: Final = """\
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
ENABLE_IPV6 = False
NO_DNS = True
DEFAULT_DOMAIN_NAME = pool.test
UID_DOMAIN = pool.test
FILESYSTEM_DOMAIN = pool.test
TRUST_DOMAIN = pool.test
# Without it a schedd of an ordinary account is not "the local one" to the bindings.
SCHEDD_HOST = ap@pool.test
LOCAL_CONFIG_FILE =
REQUIRE_LOCAL_CONFIG_FILE = False
USER_CONFIG_FILE =
use SECURITY : recommended
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
SEC_CLIENT_AUTHENTICATION_METHODS = FS
# What would else be read from and written to the home that the account has in /etc/passwd.
SEC_KNOWN_HOSTS = {folder}/home/known_hosts
SEC_SYSTEM_KNOWN_HOSTS = {folder}/home/known_hosts
SEC_TOKEN_DIRECTORY = {folder}/tokens
SEC_TOKEN_SYSTEM_DIRECTORY = {folder}/tokens
SEC_PASSWORD_DIRECTORY = {folder}/passwords
"""

_CLIENT: Final = """\
LOCAL_CONFIG_DIR =
QUERY_TIMEOUT = 10
"""

_POOL: Final = """\
RELEASE_DIR = {tree}/root/usr
BIN = {tree}/bin
SBIN = {tree}/sbin
LIBEXEC = {tree}/libexec
LIB = {tree}/root/usr/lib/condor
LOCAL_DIR = {folder}
LOG = {folder}/log
RUN = {folder}/run
LOCK = {folder}/lock
SPOOL = {folder}/spool
EXECUTE = {folder}/x
DAEMON_SOCKET_DIR = {folder}/sock
LOCAL_CONFIG_DIR = {folder}/config.d
SCHEDD_NAME = ap@pool.test
DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD STARTD
ALLOW_WRITE = *@pool.test
ALLOW_DAEMON = *@pool.test
ALLOW_ADMINISTRATOR = *@pool.test
NUM_CPUS = {cpus}
MEMORY = {memory_mib}

# The machine's kernel and its control groups are none of a test's.
ENABLE_KERNEL_TUNING = False
LINUX_KERNEL_TUNING_SCRIPT =
BASE_CGROUP =
MAIL = /bin/true
RUNBENCHMARKS = False
# The machine's Java would leave files in /tmp; its plugins are in Python.
JAVA =
ENABLE_URL_TRANSFERS = False

# A removed, held or evicted job gets SIGTERM at once, and SIGKILL after its own job_max_vacate_time or else this.
MachineMaxVacateTime = 600
# The account's home in /etc/passwd is none that it may write to.
STARTER_SETS_HOME_ENV = False
STARTER_JOB_ENVIRONMENT = "HOME={folder}/home"

# A test waits for the next cycle of each.
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
SCHEDD_INTERVAL = 2
SCHEDD_MIN_INTERVAL = 1
UPDATE_INTERVAL = 5
MASTER_BACKOFF_CONSTANT = 1
MASTER_BACKOFF_CEILING = 2
"""


@dataclass(frozen=True)
class CondorPool:
    """A running pool, to be used as its account by `tool` and `account_words`."""

    folder: Path
    tree: Path
    process: "subprocess.Popen[bytes]"

    @property
    def config(self) -> Path:
        """Return the `CONDOR_CONFIG` of the pool's users, for its commands and the Python bindings."""
        return self.folder / "client.conf"

    @property
    def home(self) -> Path:
        """Return the account's home, where its jobs may leave files."""
        return self.folder / "home"

    def environment(self) -> dict[str, str]:
        """Return the variables of a user of the pool: his commands are found by name, his home is in the folder."""
        return _environment(self.folder, self.tree, self.config)

    def account_words(self) -> list[str]:
        """Return what to put before a command that the pool's account is to run as a user of the pool."""
        return ordinary_account.words(self.environment())

    def tool(self, *words: str) -> str:
        """Run one of HTCondor's commands, in the account's home, that must succeed; return what it printed."""
        command = [*ordinary_account.words(_environment(self.folder, self.tree, self.folder / _POOL_CONF)), *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TOOL_LIMIT_S, check=False, cwd=self.home
        )
        assert done.returncode == 0, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self, *constraint: str) -> list[dict[str, Any]]:
        """Return the queue's jobs; arguments are further ones of `condor_q`, such as a cluster's number."""
        return _ads(self.tool("condor_q", "-json", *constraint))

    def history(self, cluster: int) -> list[dict[str, Any]]:
        """Return the jobs of a cluster that have left the queue."""
        return _ads(self.tool("condor_history", "-json", str(cluster)))

    def slots(self) -> list[dict[str, Any]]:
        """Return the slots as the collector knows them, those that jobs were given included."""
        return _ads(self.tool("condor_status", "-json"))

    def configure(self, name: str, text: str) -> None:
        """Give the daemons further settings, or others in place of those of the same name, and tell them so."""
        ordinary_account.write_file(self.folder / "config.d" / name, text)
        self.process.send_signal(signal.SIGHUP)

    def set_can_run_vms(self, value: bool) -> None:
        """Give the node the attribute or take it away; return when the collector knows it of every slot."""
        self.configure("ability", _ability(value))
        wanted = True if value else None
        wait_until(
            lambda: all(slot.get(ABILITY) is wanted for slot in self.slots()),
            f"{ABILITY} is {wanted} in all slots",
            timeout_s=_RECONFIGURE_S,
            poll_s=0.2,
        )

    def pid_of(self, daemon: Daemon) -> int:
        """Return the process id of a daemon of which one runs."""
        found = self.pids_of(daemon)
        assert len(found) == 1, f"{len(found)} of {daemon} run\n{self.story()}"
        return found[0]

    def pids_of(self, daemon: Daemon) -> list[int]:
        """Return the process ids of all that run of a daemon."""
        program = f"/condor_{daemon}"
        return [pid for pid in self.processes() if any(w.endswith(program) for w in ordinary_account.command_line(pid))]

    def kill(self, daemon: Daemon) -> int:
        """Kill a daemon as a crash would; the master starts it again within seconds. Return its process id."""
        pid = self.pid_of(daemon)
        os.kill(pid, signal.SIGKILL)
        return pid

    def stop(self, daemon: Daemon) -> None:
        """Let a daemon hang: its sockets accept and do not answer."""
        os.kill(self.pid_of(daemon), signal.SIGSTOP)

    def resume(self, daemon: Daemon) -> None:
        """Let a daemon go on that `stop` stopped."""
        os.kill(self.pid_of(daemon), signal.SIGCONT)

    def processes(self) -> list[int]:
        """Return the processes of the pool: its daemons, and its jobs with all that they started."""
        return ordinary_account.marked_processes(
            f"CONDOR_CONFIG={self.folder / _POOL_CONF}", f"_CONDOR_SCRATCH_DIR={self.folder}/x/"
        )

    def story(self) -> str:
        """Return the last lines of the daemons' logs, for a failing assertion."""
        parts = []
        for path in sorted((self.folder / "log").glob("*")):
            if path.is_file():
                lines = path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
                parts.append("\n".join([f"--- {path.name} ---", *lines]))
        return "\n".join(parts)


_POOL_CONF: Final = "pool.conf"


@contextmanager
def condor_pool(
    folder: Path, *, cpus: int = 4, memory_mib: int = 8192, can_run_vms: bool = True
) -> Iterator[CondorPool]:
    """Run a pool in `folder`, whose path must be short, for the block. At its end neither daemons nor jobs are left.

    The folder becomes the pool's account's.
    """
    for name in ("", "config.d", "home", "lock", "log", "run", "sock", "spool", "x"):
        ordinary_account.make_folder(folder / name)
    for name in ("passwords", "tokens"):
        ordinary_account.make_folder(folder / name, 0o700)
    tree = ordinary_account.programs("htcondor", folder / "programs")
    values = {"folder": folder, "tree": tree, "port": free_port(), "cpus": cpus, "memory_mib": memory_mib}
    ordinary_account.write_file(folder / "client.conf", (_COMMON + _CLIENT).format(**values))
    ordinary_account.write_file(folder / _POOL_CONF, (_COMMON + _POOL).format(**values))
    ordinary_account.write_file(folder / "config.d" / "ability", _ability(can_run_vms))
    with (folder / "log" / "master.out").open("wb") as log:
        process = subprocess.Popen(
            [*ordinary_account.words({}), str(tree / "sbin" / "condor_master"), "-f"],
            env=_environment(folder, tree, folder / _POOL_CONF),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    pool = CondorPool(folder, tree, process)
    try:
        wait_until(lambda: _is_up(pool), "the pool is up", timeout_s=_START_S, poll_s=0.1)
        yield pool
    except AssertionError as failure:
        failure.add_note(pool.story())
        raise
    finally:
        _end(pool)


def _is_up(pool: CondorPool) -> bool:
    assert pool.process.poll() is None, f"condor_master ended with {pool.process.returncode}"
    words = ordinary_account.words(_environment(pool.folder, pool.tree, pool.folder / _POOL_CONF))
    for asked in ("-schedd", "-negotiator", "-startd"):
        command = [*words, "condor_status", asked, "-af", "Name"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_LIMIT_S, check=False, cwd="/")
        if said.returncode != 0 or not said.stdout.strip():
            return False
    return True


def _end(pool: CondorPool) -> None:
    for pid in pool.processes():
        ordinary_account.send(pid, signal.SIGCONT)
    if pool.process.poll() is None:
        pool.process.send_signal(signal.SIGQUIT)
        try:
            pool.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            pool.process.kill()
    pool.process.wait()
    ordinary_account.end_all(pool.processes, "the pool's processes")


def _environment(folder: Path, tree: Path, config: Path) -> dict[str, str]:
    return {
        "PATH": f"{tree}/bin:{tree}/sbin:{ordinary_account.SYSTEM_PATH}",
        "HOME": str(folder / "home"),
        "CONDOR_CONFIG": str(config),
        "LC_ALL": "C.UTF-8",
    }


def _ability(value: bool) -> str:
    return f"{ABILITY} = True\nSTARTD_ATTRS = $(STARTD_ATTRS) {ABILITY}\n" if value else ""


def _ads(text: str) -> list[dict[str, Any]]:
    return list(json.loads(text)) if text.strip() else []


if __name__ == "__main__":
    keep_up("tests.support.condor_pool", condor_pool)

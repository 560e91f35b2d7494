"""A real Slurm of one node on loopback, of one ordinary account: `python -m tests.support.slurm_cluster FOLDER`.

Its programs are those of `deploy/image/build slurm`, with qsub, qstat and qdel as PBS has them. The node has the
feature `virt`, and there is a partition of that name, which to those commands is a queue. Munge shows who is who.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from tests.support import ordinary_account
from tests.support.by_hand import keep_up
from tests.support.grid import free_port
from tests.support.waiting import wait_until

Daemon = Literal["munged", "slurmctld", "slurmd"]
_START_S: Final = 30
_STOP_S: Final = 5
_TOOL_LIMIT_S: Final = 60
_LOG_TAIL_LINES: Final = 25

_CONF: Final = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser={account}
SlurmdUser={account}
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock
CredType=cred/munge
PluginDir={tree}/root/usr/lib/x86_64-linux-gnu/slurm-wlm
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
MailProg=/bin/true

# The machine's control groups are none of a test's.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
# The node has what is said below, whatever the machine has.
SlurmdParameters=config_overrides
ReturnToService=2
# Seconds from a job's SIGTERM to its SIGKILL.
KillWait={kill_wait_s}
MinJobAge=300

# A test waits for the next cycle of each.
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=5
SlurmctldTimeout=30
SlurmdTimeout=30

NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mib} Features=virt State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=virt Nodes=ALL MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class SlurmCluster:
    """A running cluster, to be used as its account by `tool` and `account_words`."""

    folder: Path
    tree: Path
    name: str
    daemons: "dict[Daemon, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Return the account's home, where its jobs may leave files."""
        return self.folder / "home"

    def environment(self) -> dict[str, str]:
        """Return the variables of a user of the cluster: his commands are found by name, his home is in the folder."""
        return {
            "PATH": f"{self.tree}/bin:{self.tree}/sbin:{ordinary_account.SYSTEM_PATH}",
            "HOME": str(self.home),
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "LC_ALL": "C.UTF-8",
        }

    def account_words(self) -> list[str]:
        """Return what to put before a command that the cluster's account is to run as a user of the cluster."""
        return ordinary_account.words(self.environment())

    def tool(self, *words: str) -> str:
        """Run a command of Slurm's or PBS's, in the account's home, that must succeed; return what it printed."""
        command = [*self.account_words(), *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TOOL_LIMIT_S, check=False, cwd=self.home
        )
        assert done.returncode == 0, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs that the controller knows; those that ended are there for five minutes."""
        return list(json.loads(self.tool("squeue", "--json"))["jobs"])

    def start(self, daemon: Daemon) -> None:
        """Start a daemon that does not run, and wait until it serves."""
        with (self.folder / "log" / f"{daemon}.out").open("ab") as log:
            self.daemons[daemon] = subprocess.Popen(
                [*ordinary_account.words({}), *self._words(daemon)],
                env={**self.environment(), "SLURM_CLUSTER_NAME": self.name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        wait_until(lambda: self._serves(daemon), f"{daemon} serves", timeout_s=_START_S, poll_s=0.05)

    def pid_of(self, daemon: Daemon) -> int:
        """Return the process id of a daemon."""
        return self.daemons[daemon].pid

    def kill(self, daemon: Daemon) -> None:
        """Kill a daemon as a crash would; `start` starts it again."""
        self.daemons[daemon].kill()
        self.daemons[daemon].wait()

    def stop(self, daemon: Daemon) -> None:
        """Let a daemon hang: its sockets accept and do not answer."""
        os.kill(self.pid_of(daemon), signal.SIGSTOP)

    def resume(self, daemon: Daemon) -> None:
        """Let a daemon go on that `stop` stopped."""
        os.kill(self.pid_of(daemon), signal.SIGCONT)

    def processes(self) -> list[int]:
        """Return the processes of the cluster: its daemons, and its jobs with all that they started."""
        return ordinary_account.marked_processes(f"SLURM_CLUSTER_NAME={self.name}")

    def story(self) -> str:
        """Return the last lines of the daemons' logs, for a failing assertion."""
        parts = []
        for path in sorted((self.folder / "log").glob("*")):
            lines = path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
            parts.append("\n".join([f"--- {path.name} ---", *lines]))
        return "\n".join(parts)

    def _words(self, daemon: Daemon) -> list[str]:
        program = str(self.tree / "sbin" / daemon)
        run, conf = self.folder / "run", str(self.folder / "slurm.conf")
        match daemon:
            case "munged":
                files = {"socket": run / "munge.sock", "pid-file": run / "munged.pid", "seed-file": run / "munged.seed"}
                files |= {"key-file": self.folder / "keys" / "munge", "log-file": self.folder / "log" / "munged.log"}
                # --force: it does not like folders below /tmp, which anybody may write to.
                return [program, "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items())]
            case "slurmctld":
                return [program, "-D", "-f", conf]
            case "slurmd":
                return [program, "-D", "-f", conf, "-d", str(self.tree / "sbin" / "slurmstepd")]

    def _serves(self, daemon: Daemon) -> bool:
        status = self.daemons[daemon].poll()
        assert status is None, f"{daemon} ended with {status}\n{self.story()}"
        match daemon:
            case "munged":
                return (self.folder / "run" / "munge.sock").exists()
            case "slurmctld":
                return self._says("scontrol", "ping").endswith("is UP\n")
            case "slurmd":
                return self._says("sinfo", "--noheader", "--Format=StateLong").split()[:1] in (["idle"], ["mixed"])

    def _says(self, *words: str) -> str:
        said = subprocess.run([*self.account_words(), *words], capture_output=True, text=True, check=False, timeout=60)
        return said.stdout


@contextmanager
def slurm_cluster(
    folder: Path, *, cpus: int = 2, memory_mib: int = 8000, kill_wait_s: int = 10
) -> Iterator[SlurmCluster]:
    """Run a cluster in `folder`, whose path must be short, for the block. At its end no daemon and no job is left.

    The folder becomes the cluster's account's.
    """
    for name in ("", "home", "log", "run", "spool", "state"):
        ordinary_account.make_folder(folder / name)
    ordinary_account.make_folder(folder / "keys", 0o700)
    tree = ordinary_account.programs("slurm", folder / "programs")
    cluster = SlurmCluster(folder, tree, f"test{secrets.token_hex(8)}")
    text = _CONF.format(
        cluster=cluster.name,
        host=socket.gethostname().partition(".")[0],
        controller_port=free_port(),
        node_port=free_port(),
        account=ordinary_account.NAME,
        folder=folder,
        tree=tree,
        cpus=cpus,
        memory_mib=memory_mib,
        kill_wait_s=kill_wait_s,
    )
    ordinary_account.write_file(folder / "slurm.conf", text)
    try:
        cluster.tool("mungekey", "--create", f"--keyfile={folder}/keys/munge")
        for daemon in _DAEMONS:
            cluster.start(daemon)
        yield cluster
    except AssertionError as failure:
        failure.add_note(cluster.story())
        raise
    finally:
        _end(cluster)


_DAEMONS: Final[tuple[Daemon, ...]] = ("munged", "slurmctld", "slurmd")


def _end(cluster: SlurmCluster) -> None:
    ordinary_account.end_all(cluster.processes, "the cluster's processes")
    for process in cluster.daemons.values():
        process.wait(_STOP_S)


if __name__ == "__main__":
    keep_up("tests.support.slurm_cluster", slurm_cluster)

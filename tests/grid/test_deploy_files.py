"""What a site installs, read by whom it is for: a pool's daemons and commands, Slurm's controller, `sbatch`, `qsub`."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import evidence, ordinary_account
from tests.support.access_point import Bundle
from tests.support.condor_pool import ABILITY, CondorPool
from tests.support.grid import REPOSITORY, free_port
from tests.support.slurm_cluster import SlurmCluster
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.grid, pytest.mark.timeout(180)]

DEPLOY = REPOSITORY / "deploy"
_TAKEN_OVER_S = 40
_DIGEST = "VMBROKER_IMAGE_00ff"
_STAND_IN = f"""\
#!/bin/sh
[ "$*" = advertise ] || exit 9
echo 'CAN_RUN_VIRTUAL_MACHINE = true'
printf 'VMBROKER_REASON = "site %s, cache %s"\\n' "$VMBROKER_SITE" "$VMBROKER_LAUNCHER_CACHE"
echo 'VMBROKER_VCPUS = 4'
echo '{_DIGEST} = true'
"""
_SHOWS_ITS_WORDS = """\
#!/bin/sh
echo "words: $*"
echo "site: ${VMBROKER_SITE:-none}"
while [ $# -gt 0 ]; do
    [ "$1" != --token-file ] || stat --format 'token: %a' "$2"
    shift
done
"""


def program(path: Path, text: str) -> Path:
    """Write a program that every account may run."""
    ordinary_account.write_file(path, text).chmod(0o755)
    return path


def changed(name: str, **lines: str) -> str:
    """Return a file as an administrator corrects it: `NAME=value` and `NAME = value` with another value."""
    text = (DEPLOY / name).read_text()
    for key, value in lines.items():
        text, count = re.subn(rf"^({key} ?= ?).*$", rf"\g<1>{value}", text, flags=re.MULTILINE)
        assert count == 1, f"{name} has {count} lines of {key}"
    return text


def mine(folder: Path, name: str, text: str) -> Path:
    """Write a file of the account's alone."""
    path = ordinary_account.write_file(folder / name, text)
    ordinary_account.make_private(path)
    return path


@pytest.fixture(scope="class")
def node(pool: CondorPool) -> Iterator[Path]:
    """A pool whose node is configured by our fragments, and nothing else of vms; then again as it was."""
    folder = ordinary_account.make_folder(pool.folder / "vmbroker")
    launcher = program(folder / "launcher", _STAND_IN)
    script = folder / "vmbroker-advertise"
    shutil.copy(DEPLOY / "htcondor" / script.name, script)
    fragment = changed(
        "htcondor/50-vmbroker-node.conf",
        VMBROKER_LAUNCHER=str(launcher),
        VMBROKER_CACHE=str(folder / "cache"),
        STARTD_CRON_VMBROKER_EXECUTABLE=str(script),
    )
    own = (DEPLOY / "htcondor" / "50-vmbroker-accounting.conf").read_text()
    try:
        pool.set_can_run_vms(False)
        pool.configure("50-vmbroker-accounting.conf", own)
        pool.configure("50-vmbroker-node.conf", fragment)
        yield folder
    finally:
        for name in ("50-vmbroker-node.conf", "50-vmbroker-accounting.conf"):
            (pool.folder / "config.d" / name).unlink(missing_ok=True)
        # The daemons drop the job once they read that it is not there any more.
        pool.set_can_run_vms(True)
        wait_until(
            lambda: not any("VMBROKER_VCPUS" in slot for slot in pool.slots()),
            "no slot has anything of vmbroker's",
            timeout_s=_TAKEN_OVER_S,
            poll_s=0.5,
        )


class TestHTCondor:
    def slots_that_can(self, pool: CondorPool, kind: str) -> list[dict[str, Any]]:
        return [slot for slot in pool.slots() if slot.get(ABILITY) is True and slot["SlotType"] == kind]

    def test_the_fragments_are_read_as_they_are_meant(self, pool: CondorPool, node: Path) -> None:
        asked = (
            "STARTD_CRON_JOBLIST",
            "STARTD_CRON_VMBROKER_MODE",
            "STARTD_CRON_VMBROKER_PERIOD",
            "STARTD_CRON_VMBROKER_KILL",
            "MachineMaxVacateTime",
            "GROUP_NAMES",
            "GROUP_QUOTA_DYNAMIC_group_vmbroker",
        )
        read = {name: pool.tool("condor_config_val", name).strip() for name in asked}
        assert read == {
            "STARTD_CRON_JOBLIST": "VMBROKER",
            "STARTD_CRON_VMBROKER_MODE": "Periodic",
            "STARTD_CRON_VMBROKER_PERIOD": "10m",
            "STARTD_CRON_VMBROKER_KILL": "True",
            "MachineMaxVacateTime": "600",
            "GROUP_NAMES": "group_vmbroker",
            "GROUP_QUOTA_DYNAMIC_group_vmbroker": "0.25",
        }

    def test_the_startd_asks_the_launcher_and_its_slot_tells_what_it_says(self, pool: CondorPool, node: Path) -> None:
        wait_until(
            lambda: bool(self.slots_that_can(pool, "Partitionable")),
            "the slot tells of vms",
            timeout_s=_TAKEN_OVER_S,
            poll_s=0.5,
        )
        (slot,) = self.slots_that_can(pool, "Partitionable")
        assert slot["VMBROKER_VCPUS"] == 4
        assert slot[_DIGEST] is True
        assert slot["VMBROKER_REASON"] == f"site /etc/vmbroker/site.toml, cache {node}/cache"
        evidence.note("vmbroker-advertise by a startd", slot=slot["Name"], can=slot[ABILITY])

    def test_a_dynamic_slot_tells_it_too_and_its_job_knows_the_site_s_bounds(
        self, pool: CondorPool, node: Path
    ) -> None:
        job = program(
            node / "job.sh",
            '#!/bin/sh\necho "$VMBROKER_SITE" > "$1/site"\nwhile [ ! -e "$1/end" ]; do sleep 0.2; done\n',
        )
        description = (
            f"executable = {job}\narguments = {pool.home}\ntransfer_executable = False\nshould_transfer_files = YES\n"
            f"requirements = ({ABILITY} == TRUE)\nrequest_memory = 64M\nrequest_disk = 64M\nqueue\n"
        )
        ordinary_account.write_file(pool.home / "dynamic.sub", description)
        try:
            pool.tool("condor_submit", "dynamic.sub")
            wait_until(
                lambda: bool(self.slots_that_can(pool, "Dynamic")),
                "a dynamic slot tells of vms",
                timeout_s=_TAKEN_OVER_S,
                poll_s=0.5,
            )
            slot = self.slots_that_can(pool, "Dynamic")[0]
            assert slot["VMBROKER_VCPUS"] == 4
            wait_until((pool.home / "site").exists, "the job has begun", timeout_s=_TAKEN_OVER_S)
        finally:
            ordinary_account.write_file(pool.home / "end", "")
        wait_until(lambda: not pool.jobs(), "the job has ended", timeout_s=_TAKEN_OVER_S, poll_s=0.5)
        assert (pool.home / "site").read_text() == "/etc/vmbroker/site.toml\n"

    def test_a_launcher_that_breaks_is_told_at_the_next_reconfiguration(self, pool: CondorPool, node: Path) -> None:
        whole = (pool.folder / "config.d" / "50-vmbroker-node.conf").read_text()
        try:
            pool.configure("50-vmbroker-node.conf", f"{whole}VMBROKER_LAUNCHER = /nowhere\n")
            wait_until(
                lambda: all(slot.get(ABILITY) is False for slot in pool.slots()),
                "the slot tells that it cannot",
                timeout_s=_TAKEN_OVER_S,
                poll_s=0.5,
            )
            assert all("no program /nowhere" in slot["VMBROKER_REASON"] for slot in pool.slots())
        finally:
            pool.configure("50-vmbroker-node.conf", whole)

    def test_condor_submit_makes_of_the_file_what_launcher_submit_would(self, pool: CondorPool) -> None:
        folder = ordinary_account.make_folder(pool.home / "dry")
        mine(folder, "token", "secret-of-a-launcher")
        ordinary_account.write_file(folder / "launcher.sub", (DEPLOY / "htcondor" / "launcher.sub").read_text())
        ad = pool.tool("sh", "-c", f"cd {folder} && condor_submit -dry-run - launcher.sub")
        for line in (
            "RequiresVirtualization=true",
            'TransferInput="token"',
            'EncryptInputFiles="token"',
            "JobMaxVacateTime=50",
            "AllowedJobDuration=93600",
            'KillSig="SIGTERM"',
            'Rank=(VMBROKER_ACCELERATOR =?= "kvm")',
        ):
            assert f"\n{line}\n" in ad
        assert "Requirements=((CAN_RUN_VIRTUAL_MACHINE == true)) && " in ad
        assert "secret-of-a-launcher" not in ad

    def test_a_job_by_hand_starts_the_launcher_with_its_token(self, pool: CondorPool, node: Path) -> None:
        folder = ordinary_account.make_folder(pool.home / "by-hand")
        mine(folder, "token", "secret")
        launcher = program(folder / "shows", _SHOWS_ITS_WORDS)
        ordinary_account.write_file(folder / "launcher.sub", changed("htcondor/launcher.sub", LAUNCHER=str(launcher)))
        pool.tool("sh", "-c", f"cd {folder} && condor_submit launcher.sub && condor_wait -wait 40 launcher.log")
        (said,) = folder.glob("launcher.*.out")
        assert "words: run --broker https://broker.example.org --token-file /" in said.read_text()
        assert "token: 600\n" in said.read_text()
        assert "--cache" not in said.read_text(), "the site says where images are"

    def test_a_job_by_hand_brings_the_bundle_along_with_three_lines_switched_on(
        self, pool: CondorPool, node: Path
    ) -> None:
        folder = ordinary_account.make_folder(pool.home / "by-bundle")
        mine(folder, "token", "secret")
        program(ordinary_account.make_folder(node / "vmbroker-0.2.0" / "bin") / "launcher", _SHOWS_ITS_WORDS)
        subprocess.run(
            ["tar", "-czf", folder / "vmbroker.tar.gz", "-C", node, "vmbroker-0.2.0"], check=True, timeout=20
        )
        text, count = re.subn(r"^#(?=\w+ = )", "", changed("htcondor/launcher.sub"), flags=re.MULTILINE)
        assert count == 3
        ordinary_account.write_file(folder / "launcher.sub", text)
        pool.tool("sh", "-c", f"cd {folder} && condor_submit launcher.sub && condor_wait -wait 40 launcher.log")
        (said,) = folder.glob("launcher.*.out")
        assert "words: run --broker https://broker.example.org --token-file /" in said.read_text()
        assert "token: 600\n" in said.read_text()
        assert sorted(path.suffix for path in folder.glob("launcher.*")) == [".err", ".log", ".out", ".sub"]

    @pytest.mark.vm
    def test_with_a_real_launcher_the_slot_tells_what_a_trial_of_a_vm_found(
        self, pool: CondorPool, node: Path, bundle: Bundle
    ) -> None:
        fragment = changed(
            "htcondor/50-vmbroker-node.conf",
            VMBROKER_LAUNCHER=str(bundle.launcher),
            VMBROKER_SITE="",
            VMBROKER_CACHE=str(ordinary_account.make_folder(node / "images")),
            STARTD_CRON_VMBROKER_EXECUTABLE=str(node / "vmbroker-advertise"),
        )
        pool.configure("50-vmbroker-node.conf", fragment)
        wait_until(
            lambda: any("VMBROKER_ACCELERATOR" in slot for slot in self.slots_that_can(pool, "Partitionable")),
            "the slot tells what the launcher found",
            timeout_s=90,
            poll_s=0.5,
        )
        (slot,) = self.slots_that_can(pool, "Partitionable")
        assert slot["VMBROKER_ACCELERATOR"] in {"kvm", "tcg"}
        assert "network" in slot["VMBROKER_EXCHANGES"].split(",")
        evidence.note(
            "a startd and a real launcher",
            **{name: slot[name] for name in sorted(slot) if name == ABILITY or name.startswith("VMBROKER_")},
        )


class TestSlurm:
    @contextmanager
    def controller(self, slurm: SlurmCluster) -> Iterator[list[str]]:
        """Run another controller, on the cluster's configuration with our fragment; yield how to ask it."""
        folder = ordinary_account.make_folder(slurm.folder / "fragment")
        ordinary_account.make_folder(folder / "state")
        fragment = (DEPLOY / "slurm" / "vmbroker.conf").read_text()
        ordinary_account.write_file(folder / "vmbroker.conf", _on_this_machine(fragment))
        ordinary_account.write_file(folder / "slurm.conf", _without_ours(slurm, folder))
        ask = [*slurm.account_words(), f"SLURM_CONF={folder}/slurm.conf"]
        log = folder / "slurmctld.log"
        with log.open("wb") as out:
            command = [*ask, f"SLURM_CLUSTER_NAME={slurm.name}", "slurmctld", "-D", "-f", str(folder / "slurm.conf")]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/")
        try:
            wait_until(
                lambda: process.poll() is not None or "is UP" in _said(*ask, "scontrol", "ping"),
                "the controller serves",
                timeout_s=30,
                poll_s=0.2,
            )
            assert process.poll() is None, log.read_text()
            yield ask
        finally:
            process.terminate()
            process.wait(20)
        assert not re.search("error: .*(parse|unrecognized|vmbroker.conf)", log.read_text(), re.IGNORECASE), (
            log.read_text()
        )

    def test_a_controller_takes_the_fragment_as_it_is_meant(self, slurm: SlurmCluster) -> None:
        with self.controller(slurm) as ask:
            config = _said(*ask, "scontrol", "show", "config")
            assert re.search(r"^KillWait += 60 sec$", config, re.MULTILINE)
            assert re.search(r"^SlurmctldParameters += preempt_send_user_signal$", config, re.MULTILINE)
            assert "AvailableFeatures=virt" in _said(*ask, "scontrol", "show", "nodes")
            partition = _said(*ask, "scontrol", "show", "partition", "virt")
            assert "MaxTime=2-00:00:00" in partition
            assert "State=UP" in partition

    def test_sbatch_would_take_the_job_and_no_node_without_the_feature_would(self, slurm: SlurmCluster) -> None:
        folder = ordinary_account.make_folder(slurm.home / "dry")
        text = (DEPLOY / "slurm" / "launcher.sbatch").read_text()
        ordinary_account.write_file(folder / "launcher.sbatch", text)
        assert "to start at" in _all_said(slurm, folder, "sbatch", "--test-only", "launcher.sbatch")
        ordinary_account.write_file(folder / "other.sbatch", text.replace("constraint=virt", "constraint=nothing"))
        assert "Invalid feature" in _all_said(slurm, folder, "sbatch", "--test-only", "other.sbatch")

    @pytest.mark.parametrize(("file", "submit"), [("slurm/launcher.sbatch", "sbatch"), ("pbs/launcher.pbs", "qsub")])
    def test_a_job_by_hand_starts_the_launcher_with_its_token(
        self, slurm: SlurmCluster, file: str, submit: str
    ) -> None:
        folder = ordinary_account.make_folder(slurm.home / submit)
        mine(folder, "token", "secret")
        launcher = program(folder / "shows", _SHOWS_ITS_WORDS)
        ordinary_account.write_file(folder / "job", changed(file, launcher=str(launcher)))
        _all_said(slurm, folder, submit, "job")
        said = [re.compile(r"launcher\.\d+\.log|job\.o\d+"), re.compile("token: 600\n")]

        def output() -> str:
            return "".join(path.read_text() for path in folder.iterdir() if said[0].fullmatch(path.name))

        wait_until(lambda: bool(said[1].search(output())), f"the job of {submit} has run", timeout_s=40, poll_s=0.2)
        assert f"words: run --broker https://broker.example.org --token-file {folder}/token" in output()
        assert "site: /etc/vmbroker/site.toml" in output()


def _on_this_machine(fragment: str) -> str:
    """Return the fragment with this machine in place of the cluster's nodes."""
    here = f"node NodeHostname={socket.gethostname().partition('.')[0]} NodeAddr=127.0.0.1"
    text, count = re.subn(r"^NodeName=node\[01-04\]", f"NodeName={here}", fragment, flags=re.MULTILINE)
    assert count == 1
    return text.replace("Nodes=node[01-04]", "Nodes=node")


def _without_ours(slurm: SlurmCluster, folder: Path) -> str:
    """Return the cluster's configuration with ports and a state of its own, and `Include` in place of ours."""
    own = {
        "SlurmctldPort": str(free_port()),
        "SlurmdPort": str(free_port()),
        "StateSaveLocation": str(folder / "state"),
        "SlurmctldPidFile": str(folder / "slurmctld.pid"),
        "SlurmctldLogFile": "",
    }
    kept = []
    for line in (slurm.folder / "slurm.conf").read_text().splitlines():
        name = line.partition("=")[0]
        if name in {"NodeName", "PartitionName", "KillWait", "SlurmctldLogFile"}:
            continue
        kept.append(f"{name}={own[name]}" if name in own else line)
    return "\n".join([*kept, "Include vmbroker.conf", ""])


def _said(*words: str) -> str:
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    return said.stdout


def _all_said(slurm: SlurmCluster, folder: Path, *words: str) -> str:
    """Return what a command says, on stderr too, where Slurm's tell what they would do."""
    command = [*slurm.account_words(), *words]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder)
    return said.stdout + said.stderr

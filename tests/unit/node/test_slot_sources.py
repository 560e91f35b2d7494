"""What a slot is by what batch systems, the kernel and people say, from texts as the real ones write them."""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from launcher.slot.features import features
from launcher.slot.htcondor import htcondor
from launcher.slot.kernel import kernel
from launcher.slot.pbs import pbs
from launcher.slot.sizes import LAUNCHER_MIB, Given, judge, read_slot
from launcher.slot.slurm import slurm
from launcher.slot.words import Fact, Fault, Quantity, Surroundings, Word, Words

GIB = 1 << 30
MACHINE_AD = """\
Activity = "Busy"
Cpus = 4
Disk = 41943040
GLIDEIN_ToDie = 1795090000
GLIDEIN_ToRetire = 1795080000
Memory = 8192
Name = "slot1_1@glidein_17_204@wn42.example.org"
SlotWeight = Cpus
TotalCpus = 64.0
"""
JOB_AD = """\
AllowedExecuteDuration = 7200
AllowedJobDuration = undefined
JobCurrentStartDate = 1795000000
MaxJobRetirementTime = 0
Requirements = (CAN_RUN_VIRTUAL_MACHINE == true)
"""


def said(words: Words) -> dict[str, list[int]]:
    """Return the values by their quantities; a fault is none."""
    found: dict[str, list[int]] = {}
    for word in words:
        assert isinstance(word, Word), word
        found.setdefault(word.quantity.value, []).append(word.fact.value)
    return found


def faults(words: Words) -> list[str]:
    return [word.sentence for word in words if isinstance(word, Fault)]


def around(root: Path, files: Mapping[str, str] | None = None, **environ: str) -> Surroundings:
    """Return surroundings with these files below `root`."""
    for path, text in (files or {}).items():
        (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (root / path.lstrip("/")).write_text(text)
    return Surroundings(environ, root)


def test_htcondors_slot_and_the_earlier_end_of_glidein_and_job(tmp_path: Path) -> None:
    files = {"/pool/dir_7/.machine.ad": MACHINE_AD, "/pool/dir_7/.job.ad": JOB_AD}
    names = {"_CONDOR_MACHINE_AD": "/pool/dir_7/.machine.ad", "_CONDOR_JOB_AD": "/pool/dir_7/.job.ad"}
    assert said(htcondor(around(tmp_path, files, **names))) == {
        "vcpus": [4],
        "memory_mib": [8192],
        "disk_mib": [40_960],
        "end_s": [1_795_090_000, 1_795_007_200],
    }


@pytest.mark.parametrize(("executing_s", "end_s"), [(1_794_900_000, 1_795_007_200), (1_795_000_100, 1_795_007_300)])
def test_htcondors_execution_counts_from_this_run_and_not_from_a_former_ones(
    tmp_path: Path, executing_s: int, end_s: int
) -> None:
    files = {"/job.ad": f"{JOB_AD}JobCurrentStartExecutingDate = {executing_s}\n"}
    assert said(htcondor(around(tmp_path, files, _CONDOR_JOB_AD="/job.ad"))) == {"end_s": [end_s]}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_NODE": "16384", "SLURM_JOB_END_TIME": "1795003600"},
            {"vcpus": [8], "memory_mib": [16_384], "end_s": [1_795_003_600]},
        ),
        (
            {"SLURM_JOB_CPUS_PER_NODE": "16(x2),4", "SLURM_NODEID": "2", "SLURM_MEM_PER_CPU": "2000"},
            {"vcpus": [4], "memory_mib": [8_000]},
        ),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "2"}, {"vcpus": [8]}),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "2", "SLURM_STEP_ID": "0"}, {"vcpus": [2]}),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_NODE": "0"}, {"vcpus": [8]}),
        (
            {"SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "2,4(x2)", "SLURM_NODEID": "1"}
            | {"SLURM_MEM_PER_NODE": "16384", "SLURM_NTASKS_PER_NODE": "4"},
            {"memory_mib": [4_096]},
        ),
        (
            {"SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NODEID": "7", "SLURM_MEM_PER_NODE": "16384"},
            {"memory_mib": [4_096]},
        ),
        ({"SLURM_NTASKS_PER_NODE": "4", "SLURM_MEM_PER_NODE": "16384"}, {"memory_mib": [16_384]}),
    ],
    ids=[
        "a batch script",
        "a list of nodes",
        "tasks to come",
        "a task of srun",
        "all the node's memory",
        "one of several tasks",
        "one of several tasks, as the job asked",
        "a batch script of several tasks",
    ],
)
def test_slurms_job(environ: dict[str, str], expected: dict[str, list[int]]) -> None:
    assert said(slurm(Surroundings(environ))) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"NCPUS": "4", "PBS_RESC_MEM": "8589934592"}, {"vcpus": [4], "memory_mib": [8192]}),
        ({"PBS_NUM_PPN": "6", "PBS_NP": "12", "PBS_RESC_MEM": "12gb"}, {"vcpus": [6], "memory_mib": [12_288]}),
    ],
    ids=["OpenPBS", "Torque"],
)
def test_pbss_job(environ: dict[str, str], expected: dict[str, list[int]]) -> None:
    assert said(pbs(Surroundings({"PBS_JOBID": "1.head", **environ}))) == expected
    assert said(pbs(Surroundings(environ))) == {}, "variables of that name are no job"


@pytest.mark.parametrize(("text", "limit_s"), [("7200", 7_200), ("02:00:30", 7_230)])
def test_pbss_time_counts_from_the_start_of_the_jobs_script(tmp_path: Path, text: str, limit_s: int) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    booted_s = time.clock_gettime(time.CLOCK_BOOTTIME)

    def stat(parent: int, age_s: float) -> str:
        return f"9 (sh (x) y) S {parent} " + "0 " * 17 + f"{int((booted_s - age_s) * ticks)} 0\n"

    of_job = "PATH=/bin\0PBS_JOBID=1.head\0"
    files = {
        "/proc/self/stat": stat(31, 10),
        "/proc/31/stat": stat(30, 400),
        "/proc/31/environ": of_job,
        "/proc/30/stat": stat(1, 90_000),
        "/proc/30/environ": "PATH=/bin\0",
    }
    surroundings = around(tmp_path, files, PBS_JOBID="1.head", PBS_WALLTIME=text)
    (end_s,) = said(pbs(surroundings))["end_s"]
    assert abs(end_s - (time.time() - 400 + limit_s)) < 5


def test_machine_and_job_features(tmp_path: Path) -> None:
    files = {
        "/mjf/job/allocated_cpu": "4\n",
        "/mjf/job/max_rss_bytes": f"{8 * GIB}",
        "/mjf/job/scratch_limit_bytes": f"{40 * GIB}",
        "/mjf/job/wall_limit_secs": "3600",
        "/mjf/job/jobstart_secs": "1795000000",
        "/mjf/job/shutdowntime_job": "1795009000",
        "/mjf/machine/shutdowntime": "1795008000",
        "/mjf/machine/hs06": "1234.5",
    }
    told = features(around(tmp_path, files, JOBFEATURES="/mjf/job", MACHINEFEATURES="/mjf/machine"))
    assert said(told) == {
        "vcpus": [4],
        "memory_mib": [8192],
        "disk_mib": [40_960],
        "end_s": [1_795_008_000, 1_795_009_000, 1_795_003_600],
    }


def test_the_limits_of_control_groups_count_all_the_way_up(tmp_path: Path) -> None:
    mount = "/sys/fs/cgroup"
    files = {
        "/proc/self/cgroup": "0::/system.slice/slurmstepd.scope/job_7/step_0\n",
        "/proc/self/mountinfo": f"31 23 0:27 / {mount} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
        f"{mount}/system.slice/slurmstepd.scope/job_7/step_0/memory.max": "max\n",
        f"{mount}/system.slice/slurmstepd.scope/job_7/step_0/cpu.max": "max 100000\n",
        f"{mount}/system.slice/slurmstepd.scope/job_7/memory.max": f"{4 * GIB}\n",
        f"{mount}/system.slice/slurmstepd.scope/job_7/memory.high": f"{3 * GIB}\n",
        f"{mount}/system.slice/slurmstepd.scope/cpu.max": "150000 100000\n",
    }
    affinity, *quotas = said(kernel(around(tmp_path, files)))["vcpus"]
    assert (affinity, quotas) == (len(os.sched_getaffinity(0)), [1])
    assert said(kernel(around(tmp_path, files)))["memory_mib"] == [4096, 3072]
    assert said(kernel(around(tmp_path / "without")))["vcpus"] == [affinity]


def test_the_limits_of_version_1_within_a_containers_mount(tmp_path: Path) -> None:
    files = {
        "/proc/self/cgroup": "4:memory:/docker/abc/job\n3:cpu,cpuacct:/docker/abc\n0::/\n",
        "/proc/self/mountinfo": (
            "40 39 0:33 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
            "41 39 0:34 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        ),
        "/sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{2 * GIB}\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    found = said(kernel(around(tmp_path, files)))
    assert (found["vcpus"][1:], found["memory_mib"]) == ([3], [2048])


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"SLURM_CPUS_ON_NODE": "many"}, "SLURM_CPUS_ON_NODE is 'many', which is no number"),
        ({"SLURM_JOB_CPUS_PER_NODE": "4(y2)"}, "SLURM_JOB_CPUS_PER_NODE is '4(y2)', which is no list of processors"),
        ({"SLURM_JOB_END_TIME": "inf"}, "SLURM_JOB_END_TIME is 'inf', which is no number"),
        ({"PBS_JOBID": "1", "PBS_WALLTIME": "a day"}, "PBS_WALLTIME is 'a day', which is no time"),
        ({"PBS_JOBID": "1", "PBS_RESC_MEM": "much"}, "PBS_RESC_MEM is 'much', which is no size"),
        ({"_CONDOR_MACHINE_AD": "/gone"}, "_CONDOR_MACHINE_AD names /gone, which is not there"),
        ({"_CONDOR_MACHINE_AD": "/bad"}, "HTCondor's machine ad, Cpus is 'TotalCpus / 2', which is no number"),
        ({"JOBFEATURES": "/mjf"}, "JOBFEATURES/allocated_cpu is '0', which is less than one"),
    ],
)
def test_what_cannot_be_read_is_told_and_passed_over(tmp_path: Path, environ: dict[str, str], sentence: str) -> None:
    surroundings = around(tmp_path, {"/bad": "Cpus = TotalCpus / 2\n", "/mjf/allocated_cpu": "0"}, **environ)
    facts = read_slot(Given(), tmp_path, surroundings)
    assert facts.warnings == (sentence,)
    assert facts.vcpus.value == len(os.sched_getaffinity(0))


def word(quantity: Quantity, value: int, source: str) -> Word:
    return Word(quantity, Fact(value, source))


BATCH = [
    word(Quantity.VCPUS, 4, "HTCondor"),
    word(Quantity.VCPUS, 16, "Slurm"),
    word(Quantity.MEMORY_MIB, 8_000, "HTCondor"),
    word(Quantity.DISK_MIB, 10_000, "HTCondor"),
    word(Quantity.END_S, 2_000, "HTCondor"),
    word(Quantity.END_S, 1_000, "Slurm"),
]
ENFORCED = [word(Quantity.VCPUS, 2, "affinity"), word(Quantity.MEMORY_MIB, 6_000, "control group")]
PRESENT = [word(Quantity.MEMORY_MIB, 50_000, "available"), word(Quantity.DISK_MIB, 90_000, "free")]


def test_the_innermost_batch_system_counts_and_the_kernel_bounds_it() -> None:
    facts = judge(Given(), BATCH, ENFORCED, PRESENT)
    assert (facts.vcpus, facts.disk_mib) == (Fact(2, "affinity"), Fact(10_000, "HTCondor"))
    assert facts.memory_mib == Fact(6_000 - LAUNCHER_MIB, f"control group, less {LAUNCHER_MIB} for the launcher")
    assert judge(Given(), BATCH, [], PRESENT).vcpus == Fact(4, "HTCondor")
    assert judge(Given(), BATCH, [], PRESENT).memory_mib.value == 8_000 - LAUNCHER_MIB


def test_the_earliest_end_counts_whoever_tells_it() -> None:
    assert judge(Given(), BATCH, ENFORCED, PRESENT).end == Fact(1_000, "Slurm")
    end = datetime.fromtimestamp(900, UTC)
    facts = judge(Given(end=end), BATCH, ENFORCED, PRESENT)
    assert (facts.end, facts.ends_at) == (Fact(900, "the launcher's settings"), end)
    never = [word(Quantity.END_S, 10**15, "a batch system without a limit")]
    assert judge(Given(), never, ENFORCED, PRESENT).end is None


def test_a_persons_word_stands_but_for_memory_that_the_kernel_kills_for() -> None:
    facts = judge(Given(vcpus=8, memory_mib=7_000, disk_mib=99_000), BATCH, ENFORCED, PRESENT)
    assert (facts.vcpus.value, facts.disk_mib.value) == (8, 99_000)
    assert facts.memory_mib.value == 6_000 - LAUNCHER_MIB
    assert judge(Given(memory_mib=70_000), BATCH, [], PRESENT).memory_mib == Fact(70_000, "the launcher's settings")


def test_a_source_that_names_what_is_no_source_is_told(tmp_path: Path) -> None:
    (told,) = faults(features(around(tmp_path, JOBFEATURES="/nope")))
    assert told == "JOBFEATURES names /nope, which is no folder"
    files = {"/pool/machine.ad": "\x00\x01\x02"}
    assert (
        "machine.ad, which has no line"
        in faults(htcondor(around(tmp_path, files, _CONDOR_MACHINE_AD="/pool/machine.ad")))[0]
    )

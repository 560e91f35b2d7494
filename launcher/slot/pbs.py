"""What PBS and its kin tell a job: Torque, OpenPBS, and what sites' hooks add.

They tell how long a job may take, not when it began. Its script is the oldest of this process's ancestors whose
environment names the same job, and began with it.

Source: Torque's administrator guide, "Exported batch environment variables"; qsub(1B); pbs_resources(7B); proc(5).
"""

import os
import re
import time
from collections.abc import Mapping
from typing import Final

from launcher.slot.words import MIB, Fact, Fault, Quantity, Surroundings, Word, Words, words_of

_VCPUS: Final = ("PBS_NCPUS", "NCPUS", "PBS_NUM_PPN", "PBS_NP")
"""The first that is there: of this node, where a job has several, before of all."""
_SIZE: Final = re.compile(r"(\d+)\s*([kmgt]?)([bw]?)", re.IGNORECASE)
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_WORD_BYTES: Final = 8
_CLOCK: Final = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+)(?:\.\d*)?")
_MAX_ANCESTORS: Final = 64


def pbs(around: Surroundings) -> Words:
    """Yield the job's part of this node, and its end."""
    environ = around.environ
    if "PBS_JOBID" not in environ:
        return
    name = next((name for name in _VCPUS if name in environ), None)
    if name is not None:
        yield from words_of(Quantity.VCPUS, environ[name], name)
    yield from _memory(environ)
    yield from _end(around)


def _memory(environ: Mapping[str, str]) -> Words:
    text = environ.get("PBS_RESC_MEM")
    if text is None:
        return
    size = _SIZE.fullmatch(text.strip())
    if size is None:
        yield Fault(f"PBS_RESC_MEM is {text[:80]!a}, which is no size")
        return
    unit_bytes = _UNITS[size[2].lower()] * (_WORD_BYTES if size[3].lower() == "w" else 1)
    yield from words_of(Quantity.MEMORY_MIB, size[1], "PBS_RESC_MEM", times=unit_bytes, per=MIB)


def _end(around: Surroundings) -> Words:
    text = around.environ.get("PBS_WALLTIME")
    if text is None:
        return
    clock = _CLOCK.fullmatch(text.strip())
    if clock is None:
        yield Fault(f"PBS_WALLTIME is {text[:80]!a}, which is no time")
        return
    hours, minutes, seconds = (int(part or 0) for part in clock.groups())
    try:
        began_s = _job_began_s(around)
    except (OSError, ValueError, IndexError) as error:
        yield Fault(f"PBS_WALLTIME counts from the job's start, which cannot be found out: {error}")
        return
    yield Word(
        Quantity.END_S, Fact(began_s + 3600 * hours + 60 * minutes + seconds, "PBS_WALLTIME from the job's start")
    )


def _job_began_s(around: Surroundings) -> int:
    """Return when the job's script began, in seconds since 1970."""
    job = f"PBS_JOBID={around.environ['PBS_JOBID']}"
    pid, oldest = str(around.pid), _stat(around, str(around.pid))
    for _ in range(_MAX_ANCESTORS):
        pid = oldest[1]
        if not _is_of_job(around, pid, job):
            break
        oldest = _stat(around, pid)
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(oldest[19]) / os.sysconf("SC_CLK_TCK")
    return int(time.time() - age_s)


def _stat(around: Surroundings, pid: str) -> list[str]:
    """Return the fields of a process's stat from the third on: its state, its parent, …"""
    text = around.read(f"/proc/{pid}/stat")
    if text is None:
        raise ValueError(f"there is no process {pid}")
    return text.rpartition(")")[2].split()


def _is_of_job(around: Surroundings, pid: str, job: str) -> bool:
    try:
        environment = around.read(f"/proc/{pid}/environ")
    except OSError:
        return False
    return environment is not None and job in environment.split("\0")

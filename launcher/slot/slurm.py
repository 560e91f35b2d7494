"""What Slurm tells a job, or a task that srun started in one.

Source: sbatch(1) and srun(1), "OUTPUT ENVIRONMENT VARIABLES".
"""

import re
from collections.abc import Mapping
from typing import Final

from launcher.slot.words import Fact, Fault, Quantity, Surroundings, Word, Words, words_of

_GROUP: Final = re.compile(r"(\d+)(?:\(x(\d+)\))?")
_EVERYTHING: Final = "0"
"""Of memory: `--mem=0` asks for all that the node has, and says nothing of how much that is."""


def slurm(around: Surroundings) -> Words:
    """Yield the size and end of the job's part of this node."""
    environ = around.environ
    vcpus = None
    for word in _vcpus(environ):
        if isinstance(word, Word):
            vcpus = word.fact
        yield word
    yield from _memory(environ, vcpus)
    yield from words_of(Quantity.END_S, environ.get("SLURM_JOB_END_TIME"), "SLURM_JOB_END_TIME")


def _vcpus(environ: Mapping[str, str]) -> Words:
    """Yield the first that is set: in a task its own part, else the job's on this node."""
    per_task = ("SLURM_CPUS_PER_TASK",)
    names = (*(per_task if "SLURM_STEP_ID" in environ else ()), "SLURM_CPUS_ON_NODE")
    for name in names:
        if name in environ:
            yield from words_of(Quantity.VCPUS, environ[name], name)
            return
    name = "SLURM_JOB_CPUS_PER_NODE"
    if name in environ:
        count = _nth(environ, name, "processors")
        yield count if isinstance(count, Fault) else Word(Quantity.VCPUS, count)
    else:
        yield from words_of(Quantity.VCPUS, environ.get("SLURM_CPUS_PER_TASK"), "SLURM_CPUS_PER_TASK")


def _nth(environ: Mapping[str, str], name: str, what: str) -> Fact | Fault:
    """Return this node's of a list such as `72(x2),36`."""
    listed, node = environ[name], environ.get("SLURM_NODEID", "0")
    counts: list[int] = []
    for part in listed.split(","):
        group = _GROUP.fullmatch(part.strip())
        if group is None or len(counts) > 1_000_000:
            return Fault(f"{name} is {listed[:80]!a}, which is no list of {what}")
        counts += [int(group[1])] * min(int(group[2] or 1), 1_000_000)
    if not node.isdigit() or int(node) >= len(counts) or counts[int(node)] < 1:
        return Fault(f"{name} is {listed[:80]!a}, and this is node {node[:20]!a} of it")
    return Fact(counts[int(node)], name)


def _memory(environ: Mapping[str, str], vcpus: Fact | None) -> Words:
    per_node, per_cpu = environ.get("SLURM_MEM_PER_NODE"), environ.get("SLURM_MEM_PER_CPU")
    tasks = _tasks(environ)
    if isinstance(tasks, Fault):
        yield tasks
        return
    part = "" if tasks.value == 1 else f", divided by {tasks.source}"
    if per_node not in (None, _EVERYTHING):
        yield from words_of(Quantity.MEMORY_MIB, per_node, f"SLURM_MEM_PER_NODE{part}", per=tasks.value)
    elif per_cpu not in (None, _EVERYTHING) and vcpus is not None:
        source = f"SLURM_MEM_PER_CPU times {vcpus.source}"
        yield from words_of(Quantity.MEMORY_MIB, per_cpu, source, times=vcpus.value)


def _tasks(environ: Mapping[str, str]) -> Fact | Fault:
    """Return between how many tasks of srun this node's memory is divided; one, in a batch script."""
    if "SLURM_STEP_ID" not in environ:
        return Fact(1, "")
    if "SLURM_STEP_TASKS_PER_NODE" in environ:
        return _nth(environ, "SLURM_STEP_TASKS_PER_NODE", "tasks")
    name = "SLURM_NTASKS_PER_NODE"
    text = environ.get(name, "1")
    if not text.isdigit() or int(text) < 1:
        return Fault(f"{name} is {text[:80]!a}, which is no number of tasks")
    return Fact(int(text), name)

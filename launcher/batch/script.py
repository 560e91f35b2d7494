"""The script of a launcher job: from what the batch system gives to `launcher run`.

It becomes the launcher by `exec`, so that the batch system's SIGTERM reaches that, and nothing is left to clean up
behind it. It holds no secret: it names the file that has the credential.
"""

from collections.abc import Callable
from pathlib import Path
from shlex import quote
from string import Template
from typing import Final

from broker.wire.jobs import BatchKind
from launcher.batch.order import Order
from launcher.slot import LAUNCHER_MIB

_LONGEST_SCRATCH: Final = 42
"""Of a folder in which launchers make theirs with sockets in it, in bytes: `launcher.node.scratch` bounds the whole."""

_SCRIPT: Final = Template("""\
#!/bin/sh
# The job of a vmbroker launcher. Who reads it: the batch system, on the node. Written by `launcher submit` or
# `launcher provision`; every job of one submission has the same.
set -eu
umask 077
PATH=$${PATH:+$$PATH:}/usr/sbin:/usr/bin:/sbin:/bin
export PATH
$where
# The launcher's folder has sockets in it, whose paths are short.
[ "$${#scratch}" -le $longest ] || scratch=/tmp
set -- --broker $broker --token-file "$$files/token" --name "$tag-$$job" --scratch "$$scratch"
[ ! -f "$$files/ca.pem" ] || set -- "$$@" --ca-file "$$files/ca.pem"
set -- "$$@" $run
$sizes\
$cache\
$program
exec "$$launcher" run "$$@"
""")

_WHERE: Final[dict[BatchKind, str]] = {
    BatchKind.HTCONDOR: """\
files=$PWD scratch=${_CONDOR_SCRATCH_DIR:-$PWD} job=$1 cache=$scratch/c""",
    BatchKind.SLURM: """\
files=FILES scratch=${SLURM_TMPDIR:-${TMPDIR:-/tmp}} cache=${TMPDIR:-/tmp}/vmbroker-cache-$(id -u)
job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}""",
    BatchKind.PBS: """\
files=FILES scratch=${PBS_JOBFS:-${TMPDIR:-/tmp}} cache=${TMPDIR:-/tmp}/vmbroker-cache-$(id -u)
job=${PBS_JOBID:-${SLURM_JOB_ID:-$$}}
job=$(printf %s "${job%%.*}" | tr -c 'A-Za-z0-9._-' _)
job=${job%_}""",
}
_OWN_CACHE: Final = """\
# A site says in its site.toml where images are kept; without that, they are kept as long as the batch system lets them.
[ -n "${VMBROKER_SITE:-}${VMBROKER_LAUNCHER_CACHE:-}" ] || set -- "$@" --cache "$cache"
"""
_END: Final = """\
end=$(date -u -d "@$(($(date +%s) + RUNTIME))" +%Y-%m-%dT%H:%M:%SZ)
set -- "$@" --end "$end"
"""


def job_script(kind: BatchKind, order: Order, tag: str, folder: Path) -> str:
    """Return the script.

    Args:
        kind: the batch system.
        order: what the jobs get.
        tag: of the submission.
        folder: its folder, which nodes of Slurm and PBS see.
    """
    return _SCRIPT.substitute(
        where=_WHERE[kind].replace("FILES", quote(str(folder))),
        longest=_LONGEST_SCRATCH,
        broker=quote(order.broker),
        tag=tag,
        run=" ".join(map(quote, _run_words(order))),
        sizes=_SIZES[kind](order),
        cache=_cache(order),
        program=_program(kind, order),
    )


def _run_words(order: Order) -> list[str]:
    words = ["--idle-s", str(order.idle_s), "--drain-s", str(order.drain_s)]
    if order.vms is not None:
        words += ["--vms", str(order.vms)]
    for user in order.users:
        words += ["--user", user]
    return words


def _of_htcondor(_order: Order) -> str:
    """Return nothing: a slot's ads tell all sizes, and the end."""
    return ""


def _of_slurm(order: Order) -> str:
    # Its variables tell processors and memory; the end not before 22.05.
    return _END.replace("RUNTIME", str(order.runtime_s)) + f'set -- "$@" --disk-mib {order.disk_mib}\n'


def _of_pbs(order: Order) -> str:
    # Which of its variables there are depends on the site. Memory that is set is the vms', the launcher's own left out.
    memory_mib = max(1, order.memory_mib - LAUNCHER_MIB)
    sizes = f"--vcpus {order.vcpus} --memory-mib {memory_mib} --disk-mib {order.disk_mib}"
    return _END.replace("RUNTIME", str(order.runtime_s)) + f'set -- "$@" {sizes}\n'


_SIZES: Final[dict[BatchKind, Callable[[Order], str]]] = {
    BatchKind.HTCONDOR: _of_htcondor,
    BatchKind.SLURM: _of_slurm,
    BatchKind.PBS: _of_pbs,
}


def _cache(order: Order) -> str:
    scratch = "" if order.scratch is None else f'set -- "$@" --scratch {quote(order.scratch)}\n'
    return scratch + (_OWN_CACHE if order.cache is None else f'set -- "$@" --cache {quote(order.cache)}\n')


def _program(kind: BatchKind, order: Order) -> str:
    if order.launcher is not None:
        return f"launcher={quote(order.launcher)}"
    if kind is not BatchKind.HTCONDOR:
        # A link to that of the unpacked bundle.
        return "launcher=$files/launcher"
    assert order.bundle is not None, "an order has a bundle or a launcher"
    # In the slot's own folder, which HTCondor removes.
    return (
        f'(umask 022 && cd "$files" && tar -xzf {quote(order.bundle.name)})\n'
        'launcher=$(echo "$files"/vmbroker-*/bin/launcher)'
    )

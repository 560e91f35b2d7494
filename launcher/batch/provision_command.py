"""`launcher provision`: launcher jobs kept in step with what is ready, and what it thinks of it.

Exit statuses: 0 stopped as asked, 1 the batch system does not answer, 2 wrong words, or another one works here.
"""

import json
import time
from typing import Annotated, Final

import msgspec
import structlog
import typer

from broker.wire.jobs import BatchKind
from launcher.batch import options
from launcher.batch.acting import act
from launcher.batch.errors import Refused
from launcher.batch.options import (
    constraint_of,
    credential_of,
    idle_of,
    kind_of,
    launcher_of,
    pairs_of,
    queue_of,
    span_of,
    submissions_of,
)
from launcher.batch.order import Order, check_order
from launcher.batch.planning import Limits
from launcher.batch.provision_shown import status_lines
from launcher.batch.provision_state import held, is_held, read_state
from launcher.batch.provisioning import Provisioning
from launcher.batch.submission import Record, Submission, Submissions
from launcher.batch.submitting import prepare
from launcher.batch.systems import opened

log = structlog.get_logger()

_LEAST_S, _LONGEST_S = 1, 3_600
DEFAULT_GROUP: Final = "group_vmbroker"


def provision(
    most: Annotated[int, typer.Option(min=1, max=10_000, help="Most launcher jobs, queued and running.")] = 100,
    soft: Annotated[
        int | None, typer.Option(min=1, help="Beyond so many, half is asked for; default: three quarters of --most.")
    ] = None,
    idle_most: Annotated[
        int | None, typer.Option(min=1, help="Most jobs that wait in the batch system; default: half of --most.")
    ] = None,
    every: Annotated[str, typer.Option(help="How often it looks, as 30s or 2m.")] = "60s",
    htcondor: options.ToHTCondor = False,
    slurm: options.ToSlurm = False,
    pbs: options.ToPbs = False,
    bundle: options.Bundle = None,
    launcher: options.OnNodes = None,
    broker: options.BrokerUrl = None,
    token_file: options.TokenFile = None,
    ca_file: options.CaFile = None,
    vcpus: options.Vcpus = 1,
    memory_mib: options.MemoryMib = 1_024,
    disk_mib: options.DiskMib = 10_240,
    runtime: options.Runtime = "26h",
    idle: options.Idle = "10m",
    drain_s: options.DrainS = 30,
    vms: options.Vms = None,
    cache: options.Cache = None,
    scratch: options.Scratch = None,
    requirements: options.Requirements = None,
    constraint: options.Constraint = None,
    queue: options.Queue = None,
    accounting_group: Annotated[
        str, typer.Option(help="HTCondor: the group that is charged, as the user whose items a job runs; '' for none.")
    ] = DEFAULT_GROUP,
    option: options.Options = None,
    folder: options.Folder = None,
    status: Annotated[
        bool, typer.Option("--status", help="Show what the provisioners of this account think, and end.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --status: as JSON.")] = False,
) -> None:
    """Keep launcher jobs in step with the items that are ready, until SIGTERM or Ctrl-C; the jobs stay.

    Sizes are the least of each job: one gets what its items' vms need. It asks for a third of what is missing at a
    time, for half of that beyond --soft, for nothing at --most, and takes queued jobs away that nothing is ready for.
    Started again, it goes on with the jobs that are there.
    """

    async def keep_in_step() -> None:
        submissions = submissions_of(folder)
        if status:
            _show_status(submissions, as_json)
            return
        kind = kind_of(htcondor, slurm, pbs)
        if kind is None:
            raise Refused("name the batch system: --htcondor, --slurm or --pbs")
        credential = credential_of(broker, token_file, ca_file)
        base = Order(
            broker=credential.login.url,
            vcpus=vcpus,
            memory_mib=memory_mib,
            disk_mib=disk_mib,
            runtime_s=span_of(runtime, "--runtime"),
            idle_s=idle_of(idle),
            drain_s=drain_s,
            vms=vms,
            bundle=None if bundle is None else bundle.absolute(),
            launcher=launcher_of(kind, bundle, launcher),
            scratch=scratch,
            cache=cache,
            requirements=requirements,
            constraint=constraint_of(kind, constraint),
            queue=queue_of(kind, queue),
            options=pairs_of(option),
        )
        limits = Limits(hard=most, soft=soft or -(-most * 3 // 4), queued=idle_most or -(-most // 2))
        every_s = span_of(every, "--every")
        if not _LEAST_S <= every_s <= _LONGEST_S:
            raise Refused(f"--every is {every_s} s: it looks every {_LEAST_S} s to {_LONGEST_S} s")
        check_order(base)
        group = accounting_group or None if kind is BatchKind.HTCONDOR else None
        async with opened(kind, submissions) as system:
            submission = _own(submissions, kind, base.broker, await system.locate())
            with held(submission.folder):
                prepare(submissions, kind, base, credential, tag=submission.tag, place=await system.locate())
                log.info("provisioner_started", tag=submission.tag, kind=kind.value, broker=base.broker, most=most)
                work = Provisioning(system, submission, base, limits, group)
                await work.run(every_s, lambda: credential_of(broker, token_file, ca_file))
        log.info("provisioner_stopped", tag=submission.tag)

    act(keep_in_step())


def _own(submissions: Submissions, kind: BatchKind, broker: str, place: str) -> Submission:
    """Return the folder of this provisioner: the former one's of the same place and broker, if there was one."""
    submissions.forget_old()
    for submission in submissions:
        record = submission.record()
        is_same = record.kind is kind and record.broker == broker and record.place in {"", place}
        if record.is_provisioner and is_same:
            return submission
    return submissions.make(Record(kind=kind, broker=broker, made_s=int(time.time()), is_provisioner=True, place=place))


def _show_status(submissions: Submissions, as_json: bool) -> None:
    provisioners = [submission for submission in submissions if submission.record().is_provisioner]
    states = [(each, read_state(each.folder, each.tag)) for each in provisioners]
    if as_json:
        told = [
            {**msgspec.to_builtins(submission.record()), **msgspec.to_builtins(state)} for submission, state in states
        ]
        typer.echo(json.dumps(told, indent=2))
        return
    for submission, state in states:
        for line in status_lines(submission.record(), state, is_alive=is_held(submission.folder), now_s=time.time()):
            typer.echo(line)
    if not states:
        typer.echo(f"no provisioner has worked with {submissions.root} yet")

"""`launcher submit`: launchers as jobs of a batch system.

Exit statuses: 0 done, 1 the batch system does not answer, 2 wrong words, or the batch system refuses them.
"""

import json
import shlex
import time
from typing import Annotated

import typer

from broker.wire.jobs import BatchKind
from broker.wire.names import check_digest
from launcher.batch import options, shown
from launcher.batch.acting import Output, OutputOption, act
from launcher.batch.errors import Refused
from launcher.batch.job import Job, JobState, Request
from launcher.batch.looking import look, sweep
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
from launcher.batch.order import Order, check_order, check_slots
from launcher.batch.submission import Submission, Submissions
from launcher.batch.submitting import Credential, report_of, tell_broker
from launcher.batch.submitting import submit as submit_order
from launcher.batch.systems import opened


def submit(
    slots: Annotated[int, typer.Option(help="How many launcher jobs.")],
    htcondor: options.ToHTCondor = False,
    slurm: options.ToSlurm = False,
    pbs: options.ToPbs = False,
    bundle: options.Bundle = None,
    launcher: options.OnNodes = None,
    broker: options.BrokerUrl = None,
    token_file: options.TokenFile = None,
    ca_file: options.CaFile = None,
    vcpus: options.Vcpus = 1,
    memory_mib: options.MemoryMib = 2_048,
    disk_mib: options.DiskMib = 20_480,
    runtime: options.Runtime = "26h",
    idle: options.Idle = "10m",
    drain_s: options.DrainS = 30,
    user: options.Users = None,
    vms: options.Vms = None,
    cache: options.Cache = None,
    scratch: options.Scratch = None,
    image: Annotated[
        list[str] | None,
        typer.Option(help="HTCondor: sha256:… of an image; nodes that advertise it come first; repeatable."),
    ] = None,
    requirements: options.Requirements = None,
    constraint: options.Constraint = None,
    queue: options.Queue = None,
    accounting_group: Annotated[
        str | None, typer.Option(help="HTCondor: the group that is charged; of a single --user, that user in it.")
    ] = None,
    option: options.Options = None,
    folder: options.Folder = None,
    show: Annotated[bool, typer.Option("--print", help="Print what would be submitted, and submit nothing.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Submit launchers to a batch system: each job takes items until it has no more work, or its time is over.

    The launchers' token is written to a file of this account's alone, and travels by the batch system's own means:
    never in the job's description, arguments, environment or script.
    """

    async def order_and_submit() -> None:
        kind = _named(kind_of(htcondor, slurm, pbs))
        credential = credential_of(broker, token_file, ca_file)
        users = tuple(user or ())
        order = Order(
            broker=credential.login.url,
            vcpus=vcpus,
            memory_mib=memory_mib,
            disk_mib=disk_mib,
            runtime_s=span_of(runtime, "--runtime"),
            idle_s=idle_of(idle),
            drain_s=drain_s,
            vms=vms,
            users=users,
            bundle=None if bundle is None else bundle.absolute(),
            launcher=launcher_of(kind, bundle, launcher),
            scratch=scratch,
            cache=cache,
            requirements=requirements,
            constraint=constraint_of(kind, constraint),
            queue=queue_of(kind, queue),
            accounting=_accounting(accounting_group, users),
            options=pairs_of(option),
        )
        check_order(order)
        check_slots(slots)
        submissions = submissions_of(folder)
        images = _images(image)
        if show:
            typer.echo(_printed(kind, order, slots, images, submissions))
        else:
            where = "" if folder is None else f" --folder {shlex.quote(str(folder))}"
            await _submit(kind, submissions, order, slots, credential, images, output, where)

    act(order_and_submit())


async def _submit(
    kind: BatchKind,
    submissions: Submissions,
    order: Order,
    slots: int,
    credential: Credential,
    images: tuple[str, ...],
    output: Output,
    where: str,
) -> None:
    submissions.forget_old()
    async with opened(kind, submissions) as system:
        submitted = await submit_order(system, submissions, order, slots, credential, images)
        tag = submitted.submission.tag
        if output is Output.JSON:
            typer.echo(json.dumps({"submission": tag, "kind": kind.value, "jobs": submitted.ids}))
        else:
            typer.echo(shown.submitted(kind, tag, submitted.ids))
            typer.echo(f"look at them: launcher jobs{where}; take them away: launcher remove {tag}{where}")
        queued = [Job(id=each, tag=tag, state=JobState.QUEUED, submitted_s=int(time.time())) for each in submitted.ids]
        await tell_broker(credential, tag, report_of(system, queued, "", order.users))
        # What ended long ago keeps no credential for want of somebody who looks.
        sweep(submissions, await look(system))


def _named(kind: BatchKind | None) -> BatchKind:
    if kind is None:
        raise Refused("name the batch system: --htcondor, --slurm or --pbs")
    return kind


def _images(digests: list[str] | None) -> tuple[str, ...]:
    try:
        return tuple(sorted({check_digest(digest) for digest in digests or ()}))
    except ValueError as error:
        raise Refused(f"--image: {error}") from error


def _accounting(group: str | None, users: tuple[str, ...]) -> tuple[str, str] | None:
    if group is None:
        return None
    if len(users) != 1:
        raise Refused("--accounting-group charges one user: name whose items the jobs run, --user NAME")
    return group, users[0]


def _printed(kind: BatchKind, order: Order, slots: int, images: tuple[str, ...], submissions: Submissions) -> str:
    submission = Submission(submissions.root / "vmb-00000000")
    request = Request(order=order, tag=submission.tag, slots=slots, key="0" * 16, images=images)
    return shown.printed(kind, request, submission)

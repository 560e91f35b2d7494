"""`launcher submit`, `launcher jobs`, `launcher remove`: launchers as jobs of a batch system.

Exit statuses: 0 done, 1 the batch system does not answer or refuses, 2 wrong words.
"""

import asyncio
import json
import sys
import time
from collections.abc import Coroutine, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console

from broker.wire.jobs import BatchKind
from launcher.batch import options, shown
from launcher.batch.errors import Away, BatchError, Refused
from launcher.batch.job import Job, JobState, Request
from launcher.batch.options import (
    constraint_of,
    credential_of,
    kind_of,
    launcher_of,
    pairs_of,
    queue_of,
    span_of,
    submissions_of,
)
from launcher.batch.order import Order, check_order, check_slots
from launcher.batch.provision_command import provision
from launcher.batch.provision_state import is_held
from launcher.batch.submission import Submission, Submissions
from launcher.batch.submitting import Credential, report_of, tell_broker
from launcher.batch.submitting import submit as submit_order
from launcher.batch.systems import kinds_in_use, opened
from launcher.logs import set_up_logs

__all__ = ["jobs", "provision", "remove", "submit"]

T = TypeVar("T")

_FAILED, _USAGE = 1, 2
_SETTLING_S: Final = 600
"""A submission so young may have jobs that its batch system does not tell of yet."""


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text, or json.")]


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

    async def act() -> None:
        kind = _named(kind_of(htcondor, slurm, pbs))
        credential = credential_of(broker, token_file, ca_file)
        users = tuple(user or ())
        order = Order(
            broker=credential.login.url,
            vcpus=vcpus,
            memory_mib=memory_mib,
            disk_mib=disk_mib,
            runtime_s=span_of(runtime, "--runtime"),
            idle_s=span_of(idle, "--idle"),
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
        images = tuple(sorted(set(image or ())))
        if show:
            typer.echo(_printed(kind, order, slots, images, submissions))
        else:
            await _submit(kind, submissions, order, slots, credential, images, output)

    _run(act())


def jobs(
    htcondor: options.ToHTCondor = False,
    slurm: options.ToSlurm = False,
    pbs: options.ToPbs = False,
    tags: Annotated[list[str] | None, typer.Argument(metavar="[SUBMISSION…]", help="Only those of these.")] = None,
    broker: options.BrokerUrl = None,
    token_file: options.TokenFile = None,
    ca_file: options.CaFile = None,
    folder: options.Folder = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show this account's launcher jobs, and why the queued ones do not start; the broker is told, too.

    Without a batch system named, those that were submitted to.
    """

    async def act() -> None:
        submissions = submissions_of(folder)
        found: list[Job] = []
        for kind in _kinds(kind_of(htcondor, slurm, pbs), submissions):
            found += await _look(kind, submissions, set(tags or ()), _credential(broker, token_file, ca_file), output)
        if output is Output.JSON:
            typer.echo(json.dumps([shown.plain_job(job) for job in found], indent=2))
        elif not found:
            typer.echo("no launcher jobs; `launcher submit` makes some")

    _run(act())


def remove(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[JOB|SUBMISSION…]", help="As `launcher jobs` shows.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Each job that `launcher jobs` shows.")] = False,
    at_once: Annotated[bool, typer.Option("--at-once", help="Kill them, without the time to drain.")] = False,
    htcondor: options.ToHTCondor = False,
    slurm: options.ToSlurm = False,
    pbs: options.ToPbs = False,
    folder: options.Folder = None,
) -> None:
    """Remove launcher jobs: queued ones at once; running ones drain, give their items back, and end."""

    async def act() -> None:
        if every == bool(names):
            raise Refused("name the jobs or the submissions to remove, or say --all; `launcher jobs` shows them")
        submissions = submissions_of(folder)
        count = 0
        for kind in _kinds(kind_of(htcondor, slurm, pbs), submissions):
            async with opened(kind, submissions) as system:
                present = [job for job in await system.jobs() if job.state is not JobState.ENDED]
                chosen = [
                    job for job in present if every or {job.id, job.tag, job.id.partition(".")[0]} & set(names or ())
                ]
                await system.remove(chosen, at_once=at_once)
                count += len(chosen)
        if not count and not every:
            raise Refused(
                f"there is no launcher job {', '.join(names or ())}; `launcher jobs` shows those that are there"
            )
        how = "killed" if at_once else "removed; those that run drain first"
        typer.echo(f"{count} launcher job{'' if count == 1 else 's'} {how}")

    _run(act())


async def _submit(
    kind: BatchKind,
    submissions: Submissions,
    order: Order,
    slots: int,
    credential: Credential,
    images: tuple[str, ...],
    output: Output,
) -> None:
    submissions.forget_old()
    async with opened(kind, submissions) as system:
        submitted = await submit_order(system, submissions, order, slots, credential, images)
        tag = submitted.submission.tag
        if output is Output.JSON:
            typer.echo(json.dumps({"submission": tag, "kind": kind.value, "jobs": submitted.ids}))
        else:
            typer.echo(shown.submitted(kind, tag, submitted.ids))
            typer.echo("look at them: launcher jobs; take them away: launcher remove " + tag)
        queued = [Job(id=each, tag=tag, state=JobState.QUEUED, submitted_s=int(time.time())) for each in submitted.ids]
        await tell_broker(credential, tag, report_of(system, queued, "", order.users))


async def _look(
    kind: BatchKind, submissions: Submissions, tags: set[str], credential: Credential | None, output: Output
) -> list[Job]:
    async with opened(kind, submissions) as system:
        found = [job for job in await system.jobs() if not tags or job.tag in tags]
        present = [job for job in found if job.state is not JobState.ENDED]
        sentence = await system.why_queued(present)
        if output is Output.TEXT and found:
            Console(highlight=False).print(shown.jobs_table(kind, system.place, found))
            if sentence:
                typer.echo(sentence)
        await _note(system_jobs=found, submissions=submissions, kind=kind, tags=tags)
        for tag in sorted({job.tag for job in found} if credential else ()):
            own = [job for job in present if job.tag == tag]
            users = _users(submissions.of(tag))
            if credential is not None and users is not None:
                await tell_broker(credential, tag, report_of(system, own, await system.why_queued(own), users))
    return found


async def _note(*, system_jobs: Sequence[Job], submissions: Submissions, kind: BatchKind, tags: set[str]) -> None:
    """Note which submissions have no jobs any more, and remove their credentials."""
    alive = {job.tag for job in system_jobs if job.state is not JobState.ENDED}
    for submission in submissions:
        record = submission.record()
        is_over = submission.tag not in alive and time.time() - record.made_s > _SETTLING_S
        is_at_work = record.is_provisioner and is_held(submission.folder)
        if record.kind is kind and is_over and not tags and not is_at_work and record.ended_s is None:
            submission.end(int(time.time()))


def _users(submission: Submission) -> tuple[str, ...] | None:
    """Return whom a submission's jobs serve; None where it is not known, or a provisioner tells of them itself."""
    try:
        record = submission.record()
    except (OSError, ValueError):
        return None
    return None if record.is_provisioner else record.users


def _credential(broker: str | None, token_file: Path | None, ca_file: Path | None) -> Credential | None:
    """Return the login if there is one: jobs can be looked at without."""
    try:
        return credential_of(broker, token_file, ca_file)
    except Refused:
        if broker or token_file or ca_file:
            raise
        return None


def _kinds(named: BatchKind | None, submissions: Submissions) -> list[BatchKind]:
    return [named] if named is not None else kinds_in_use(submissions)


def _named(kind: BatchKind | None) -> BatchKind:
    if kind is None:
        raise Refused("name the batch system: --htcondor, --slurm or --pbs")
    return kind


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


def _run(work: Coroutine[Any, Any, T]) -> T:
    set_up_logs()
    try:
        return asyncio.run(work)
    except BatchError as error:
        for line in str(error).splitlines():
            typer.echo(f"launcher: {line}", err=True)
        sys.exit(_FAILED if isinstance(error, Away) else _USAGE)

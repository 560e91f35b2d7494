"""`launcher jobs` and `launcher remove`.

Exit statuses: 0 done, 1 a batch system does not answer or refuses, 2 wrong words.
"""

import json
import re
from typing import Annotated, Final

import typer
from rich.console import Console

from broker.wire.jobs import BatchKind
from launcher.batch import options, shown
from launcher.batch.acting import FAILED, USAGE, Output, OutputOption, act, tell
from launcher.batch.errors import BatchError, Refused
from launcher.batch.job import Job
from launcher.batch.looking import look, sweep, tell_brokers
from launcher.batch.options import kind_of, submissions_of
from launcher.batch.submission import Submissions
from launcher.batch.systems import kinds_in_use, opened

_PARTS: Final = re.compile(r"[._\[]")
"""What stands between the number of a cluster, an array or a job, and the rest of an id."""


def jobs(
    tags: Annotated[list[str] | None, typer.Argument(metavar="[SUBMISSION…]", help="Only those of these.")] = None,
    htcondor: options.ToHTCondor = False,
    slurm: options.ToSlurm = False,
    pbs: options.ToPbs = False,
    folder: options.Folder = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show this account's launcher jobs, and why the queued ones do not start; their broker is told, too.

    Without a batch system named, those that were submitted to.
    """

    async def show() -> int:
        submissions, status, found = submissions_of(folder), 0, list[Job]()
        for kind in _kinds(kind_of(htcondor, slurm, pbs), submissions):
            try:
                async with opened(kind, submissions) as system:
                    seen = await look(system)
                    chosen = [job for job in seen.jobs if not tags or job.tag in tags]
                    found += chosen
                    if output is Output.TEXT and chosen:
                        Console(highlight=False).print(shown.jobs_table(kind, seen.place, chosen))
                    if seen.trouble:
                        tell(seen.trouble + ("; the jobs are shown as their event log has them" if chosen else ""))
                        status = FAILED
                        continue
                    if output is Output.TEXT and chosen and seen.why:
                        typer.echo(seen.why)
                    sweep(submissions, seen)
                    await tell_brokers(system, submissions, seen)
            except BatchError as error:
                tell(str(error))
                status = FAILED
        if output is Output.JSON:
            typer.echo(json.dumps([shown.plain_job(job) for job in found], indent=2))
        elif not found and not status:
            which = f" of {', '.join(tags)}" if tags else ""
            typer.echo(f"no launcher jobs{which}; `launcher submit` makes some")
        return status

    act(show())


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

    async def take_away() -> int:
        wanted = set(names or ())
        if every == bool(wanted):
            raise Refused("name the jobs or the submissions to remove, or say --all; `launcher jobs` shows them")
        submissions, status, removed = submissions_of(folder), 0, list[Job]()
        for kind in _kinds(kind_of(htcondor, slurm, pbs), submissions):
            try:
                async with opened(kind, submissions) as system:
                    seen = await look(system)
                    if seen.trouble:
                        tell(seen.trouble)
                        status = FAILED
                        continue
                    chosen = [job for job in seen.present if every or _names_of(job) & wanted]
                    await system.remove(chosen, at_once=at_once)
                    removed += chosen
                    sweep(submissions, seen)
            except BatchError as error:
                tell(str(error))
                status = FAILED
        if removed or every:
            how = "killed" if at_once else "removed; those that run drain first"
            typer.echo(f"{len(removed)} launcher job{'' if len(removed) == 1 else 's'} {how}")
        unknown = sorted(wanted - {name for job in removed for name in _names_of(job)})
        if unknown and not status:
            tell(f"there is no launcher job {', '.join(unknown)}; `launcher jobs` shows those that are there")
            return USAGE
        return status

    act(take_away())


def _names_of(job: Job) -> set[str]:
    """Return what a person may mean a job by: itself, its cluster or array, its submission."""
    return {job.id, job.tag, _PARTS.split(job.id)[0]}


def _kinds(named: BatchKind | None, submissions: Submissions) -> list[BatchKind]:
    return [named] if named is not None else kinds_in_use(submissions)

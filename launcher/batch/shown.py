"""What `launcher submit`, `jobs` and `provision --status` print."""

import time
from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from broker.wire.jobs import BatchKind
from launcher.batch import htcondor, pbs, slurm
from launcher.batch.job import Job, JobState, Request
from launcher.batch.script import job_script
from launcher.batch.submission import Submission
from launcher.batch.times import rfc3339, shown_span
from launcher.exchange.printable import printable

NAMES: Final = {BatchKind.HTCONDOR: "HTCondor", BatchKind.SLURM: "Slurm", BatchKind.PBS: "PBS"}
_MOST_SHOWN: Final = 200
_CHARS: Final = 200
_STYLES: Final = {JobState.RUNNING: "green", JobState.HELD: "red", JobState.QUEUED: "yellow"}


def submitted(kind: BatchKind, tag: str, ids: Sequence[str]) -> str:
    """Say what came of a submission."""
    which = ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"
    return f"{len(ids)} launcher job{'' if len(ids) == 1 else 's'} submitted to {NAMES[kind]} as {tag}: {which}"


def jobs_table(kind: BatchKind, place: str, jobs: Sequence[Job], now_s: float | None = None) -> Table:
    """Return the jobs, those that are there first."""
    now_s = time.time() if now_s is None else now_s
    order = list(JobState)
    table = Table(title=f"{NAMES[kind]}, {plain(place)}", title_justify="left", box=None, pad_edge=False)
    for name in ("job", "submission", "state", "for", "user", "where", "why"):
        table.add_column(name)
    listed = sorted(jobs, key=lambda job: (order.index(job.state) == len(order) - 1, order.index(job.state)))
    for job in listed[:_MOST_SHOWN]:
        state = Text(job.state.value, style=_STYLES.get(job.state, "dim"))
        since = {JobState.RUNNING: job.started_s, JobState.ENDED: job.ended_s}.get(job.state, job.submitted_s)
        age = "" if since is None else shown_span(max(0.0, now_s - since))
        table.add_row(plain(job.id), job.tag, state, age, plain(job.user), plain(job.where), plain(_why(job)))
    if len(listed) > _MOST_SHOWN:
        table.add_row("…", f"{len(listed) - _MOST_SHOWN} more", "", "", "", "", "")
    return table


def plain_job(job: Job) -> dict[str, object]:
    """Return a job as JSON has it."""
    times = {"submitted_at": job.submitted_s, "started_at": job.started_s, "ended_at": job.ended_s}
    told = {
        "job": job.id,
        "submission": job.tag,
        "launcher": job.launcher,
        "state": job.state.value,
        "user": job.user,
        "where": job.where,
        "why": job.reason,
        "global_id": job.global_id,
        "exit_status": job.exit_status,
        **{name: None if at is None else rfc3339(at) for name, at in times.items()},
    }
    return {name: value for name, value in told.items() if value not in {None, ""}}


def printed(kind: BatchKind, request: Request, submission: Submission) -> str:
    """Return what would be submitted, as the batch system's own tools would read it."""
    if kind is BatchKind.HTCONDOR:
        script = submission.folder / "job.sh"
        lines = [f"{name} = {value}" for name, value in htcondor.describe(request, submission, script).items()]
        text = job_script(kind, request.order, request.tag, submission.folder)
        return "\n".join([*lines, f"queue {request.slots}", "", f"# {script.name}", text])
    return slurm.batch_script(request, submission) if kind is BatchKind.SLURM else pbs.batch_script(request, submission)


def plain(text: str) -> str:
    """Return text of others without what would move a terminal's cursor."""
    return printable(text, _CHARS)


def _why(job: Job) -> str:
    if job.state is JobState.ENDED and job.exit_status is not None:
        return f"exit status {job.exit_status}" + (f", {job.reason}" if job.reason else "")
    return job.reason

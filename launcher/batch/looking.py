"""A look at launcher jobs, and what follows of it: credentials that nobody needs go, the broker is told.

What is not seen is not over: a submission ends only by a look at the very place that it was made to, in which nothing
failed, and some time after it was made.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from broker.client.login import Login
from broker.wire.jobs import BatchKind
from launcher.batch.errors import Away, BatchError
from launcher.batch.job import BatchSystem, Job, JobState
from launcher.batch.provision_state import is_held
from launcher.batch.submission import Submission, Submissions
from launcher.batch.submitting import Credential, report_of, tell_broker

log = structlog.get_logger()

_SETTLING_S: Final = 600
"""A submission so young may have jobs that its batch system does not tell of yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a batch system told. `trouble`: why it told nothing now; `jobs` are then as the event logs have them."""

    kind: BatchKind
    place: str
    jobs: list[Job]
    why: str = ""
    trouble: str = ""

    @property
    def present(self) -> list[Job]:
        return [job for job in self.jobs if job.state is not JobState.ENDED]


async def look(system: BatchSystem) -> Seen:
    """Look at all launcher jobs of this account."""
    try:
        found = await system.jobs()
    except Away as error:
        return Seen(kind=system.kind, place=system.place, jobs=list(error.known), trouble=str(error))
    return Seen(kind=system.kind, place=system.place, jobs=found, why=await why_queued(system, found))


async def why_queued(system: BatchSystem, jobs: Sequence[Job]) -> str:
    """Return why jobs wait, empty where the batch system does not say: nothing else depends on it."""
    try:
        return await system.why_queued(jobs)
    except BatchError as error:
        log.warning("reason_not_known", reason=str(error))
        return ""


def sweep(submissions: Submissions, seen: Seen) -> None:
    """End the submissions that have no jobs any more, as far as this look can tell."""
    if seen.trouble:
        return
    alive, now_s = {job.tag for job in seen.present}, time.time()
    for submission in submissions:
        record = submission.record()
        is_here = record.kind is seen.kind and record.place == seen.place
        is_over = submission.tag not in alive and now_s - record.made_s > _SETTLING_S
        is_at_work = record.is_provisioner and is_held(submission.folder)
        if is_here and is_over and not is_at_work and record.ended_s is None:
            submission.end(int(now_s))


async def tell_brokers(system: BatchSystem, submissions: Submissions, seen: Seen) -> None:
    """Tell each submission's own broker what became of its jobs; a provisioner tells of its jobs itself."""
    for tag in sorted({job.tag for job in seen.jobs}):
        submission = submissions.of(tag)
        credential = credential_of(submission)
        if credential is None:
            continue
        own = [job for job in seen.present if job.tag == tag]
        report = report_of(system, own, await why_queued(system, own), submission.record().users)
        await tell_broker(credential, tag, report)


def credential_of(submission: Submission) -> Credential | None:
    """Return what a submission made by hand has to speak with its broker, None where it has nothing any more."""
    try:
        record = submission.record()
        token = submission.token.read_text(encoding="ascii").strip()
        ca_pem = submission.authority.read_text(encoding="ascii") if submission.authority.exists() else None
    except (OSError, ValueError):
        return None
    return None if record.is_provisioner or not token else Credential(Login(record.broker, token), ca_pem)

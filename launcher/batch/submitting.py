"""From an order to jobs in a batch system: the folder, the script, the credential, and the word to the broker."""

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from broker.client.dispatch import DispatchClient
from broker.client.login import Login
from broker.client.session import CallError, Patience, Session
from broker.wire.jobs import BatchKind, JobsReport
from launcher.batch.errors import Away, Refused
from launcher.batch.job import BatchSystem, Job, JobState, Request
from launcher.batch.order import Order, check_order, check_slots
from launcher.batch.submission import Record, Submission, Submissions, check_bundle
from launcher.batch.times import rfc3339

log = structlog.get_logger()

_TELLING = Patience(attempts=3, total_s=15.0, max_delay_s=3.0)


@dataclass(frozen=True, slots=True)
class Credential:
    """With what launchers in jobs prove themselves, and whom they speak with."""

    login: Login
    ca_pem: str | None


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a submission became."""

    submission: Submission
    ids: list[str]


def prepare(
    submissions: Submissions,
    kind: BatchKind,
    order: Order,
    credential: Credential,
    *,
    tag: str | None = None,
    slots: int = 0,
    place: str = "",
) -> Submission:
    """Make, or renew, a submission's folder with all that its jobs read.

    Args:
        submissions: where.
        kind: the batch system.
        order: what each job gets.
        credential: the launchers'.
        tag: of a provisioner, which keeps its own.
        slots: how many are asked for, for the record; none for a provisioner.
        place: where they will be queued, where it is known beforehand.

    Raises:
        Refused: the order, the bundle or the folder cannot be used.
    """
    check_order(order)
    unpacked = _unpacked(submissions, kind, order)
    record = Record(
        kind=kind,
        broker=order.broker,
        made_s=int(time.time()),
        slots=slots,
        users=order.users,
        is_provisioner=slots == 0,
        place=place,
    )
    submission = submissions.make(record, tag)
    submission.write_credential(credential.login, credential.ca_pem)
    if unpacked is not None:
        submission.link_launcher(unpacked)
    return submission


async def submit(
    system: BatchSystem,
    submissions: Submissions,
    order: Order,
    slots: int,
    credential: Credential,
    images: tuple[str, ...],
) -> Submitted:
    """Submit `slots` jobs of one order.

    Raises:
        Refused: the order is at fault; nothing was submitted, and no credential stays behind.
        Away: the batch system does not answer; what it may have taken in is found by the submission's tag.
    """
    check_slots(slots)
    submission = prepare(submissions, system.kind, order, credential, slots=slots)
    request = Request(order=order, tag=submission.tag, slots=slots, key=secrets.token_hex(8), images=images)
    try:
        ids = await system.submit(request)
    except Refused as error:
        if not error.submitted:
            submission.end(int(time.time()))
            raise
        await _note_place(system, submission)
        raise Refused(f"{error}; {_how_to_look(submission)}") from error
    except Away as error:
        await _note_place(system, submission)
        raise Away(f"{error}; {_how_to_look(submission)}") from error
    except asyncio.CancelledError:
        log.warning("submission_interrupted", tag=submission.tag, reason=_how_to_look(submission))
        raise
    await _note_place(system, submission)
    return Submitted(submission, ids)


def _how_to_look(submission: Submission) -> str:
    tag = submission.tag
    return f"what was taken in of it, `launcher jobs {tag}` shows and `launcher remove {tag}` takes away"


async def _note_place(system: BatchSystem, submission: Submission) -> None:
    place = await system.locate()
    submission.write_record(msgspec.structs.replace(submission.record(), place=place))


def _unpacked(submissions: Submissions, kind: BatchKind, order: Order) -> Path | None:
    if order.bundle is None:
        return None
    check_bundle(order.bundle)
    if kind is BatchKind.HTCONDOR:
        return None
    with order.bundle.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return submissions.unpack(order.bundle, digest)


def report_of(system: BatchSystem, jobs: list[Job], sentence: str, users: tuple[str, ...]) -> JobsReport:
    """Return what the broker is told of a submitter's jobs."""
    queued = [job for job in jobs if job.state is JobState.QUEUED]
    since = min((job.submitted_s for job in queued if job.submitted_s is not None), default=None)
    return JobsReport(
        kind=system.kind,
        place=system.place,
        queued=len(queued),
        running=sum(job.state is JobState.RUNNING for job in jobs),
        held=sum(job.state is JobState.HELD for job in jobs),
        sentence=sentence,
        users=users,
        queued_since=None if since is None else rfc3339(since),
    )


async def tell_broker(credential: Credential, tag: str, report: JobsReport) -> None:
    """Tell the broker of a submitter's jobs, so that it can say what an item waits for. They run without, too."""
    has_any = report.queued + report.running + report.held > 0
    try:
        async with Session(credential.login.url, token=credential.login.token, ca_pem=credential.ca_pem) as session:
            dispatches = DispatchClient(session)
            if has_any:
                await dispatches.tell_jobs(tag, report, patience=_TELLING)
            else:
                await dispatches.forget_jobs(tag, patience=_TELLING)
    except CallError as error:
        log.warning("broker_not_told", reason=str(error))

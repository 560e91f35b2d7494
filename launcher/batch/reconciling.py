"""What a provisioner remembers, held against what its batch system tells: which jobs came of which request, and how
those that ended did.
"""

from collections.abc import Iterable, Sequence

from launcher.batch.job import Job, JobState
from launcher.batch.planning import Kind
from launcher.batch.provision_state import LOOKS_BEFORE_LOST, Asked, ProvisionState


def kind_of(state: ProvisionState, job: Job) -> Kind:
    """Return a job's kind: as the batch system kept it, else as it was asked for."""
    if job.shape:
        return Kind(job.user, job.shape)
    found = next((asked.kind for asked in state.asked if job.id in asked.ids), None)
    return found or Kind(job.user, "")


def reconcile(state: ProvisionState, jobs: Sequence[Job]) -> None:
    """Find the jobs of requests that were not answered; one that was seen nowhere, look after look, is lost."""
    known = {each for asked in state.asked for each in asked.ids}
    strays = [job for job in jobs if job.id not in known and job.state is not JobState.ENDED]
    for asked in [each for each in state.asked if not each.is_answered]:
        found = _of_request(asked, strays)
        if found:
            asked.ids, asked.is_answered = [job.id for job in found], True
            strays = [job for job in strays if job.id not in set(asked.ids)]
        elif asked.looks + 1 >= LOOKS_BEFORE_LOST:
            state.asked.remove(asked)
        else:
            asked.looks += 1


def _of_request(asked: Asked, strays: Iterable[Job]) -> list[Job]:
    """Return a request's jobs: by its key, or where the batch system keeps none, by when they came."""
    found = [job for job in strays if job.key == asked.key]
    if found:
        return found
    unmarked = [job for job in strays if not job.key and (job.submitted_s is None or job.submitted_s >= asked.at_s - 1)]
    return unmarked[: asked.slots]


def settle_ended(state: ProvisionState, jobs: Sequence[Job]) -> None:
    """Count how those that ended did, each once, and forget requests none of whose jobs is left."""
    by_id = {job.id: job for job in jobs}
    for asked in state.asked:
        for each in list(asked.ids):
            job = by_id.get(each)
            if job is None and asked.is_answered and asked.looks < LOOKS_BEFORE_LOST:
                # Brought in a moment ago: not every batch system shows it at once.
                asked.looks += 1
            elif job is None or job.state in {JobState.ENDED, JobState.HELD}:
                asked.ids.remove(each)
                _count(state, asked.kind, job)
    state.asked = [asked for asked in state.asked if asked.ids or not asked.is_answered]


def _count(state: ProvisionState, kind: Kind, job: Job | None) -> None:
    known = state.of(kind)
    if job is None:
        return
    if job.state is JobState.HELD:
        known.failures, known.failure = known.failures + 1, f"held: {job.reason}"
    elif job.exit_status == 0:
        known.failures, known.failure = 0, ""
    elif job.exit_status is not None:
        known.failures, known.failure = known.failures + 1, f"job {job.id} ended with status {job.exit_status}"

"""What a provisioner remembers, held against what its batch system tells: which jobs came of which request, and how
those that ended did.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

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
            asked.looks = 0
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


def note_heard(state: ProvisionState, jobs: Iterable[Job], heard: AbstractSet[str]) -> None:
    """Note which jobs' launchers the broker knows: whose job is gone later, has done something."""
    launchers = {job.id: job.launcher for job in jobs}
    for asked in state.asked:
        known = {*asked.heard, *(each for each in asked.ids if launchers.get(each) in heard)}
        asked.heard = sorted(known & set(asked.ids))


def unseen(asked: Asked, jobs: Iterable[Job]) -> int:
    """Return how many jobs of a request may be there and are not shown: all of one that was not answered."""
    if not asked.is_answered:
        return asked.slots
    return len(set(asked.ids) - {job.id for job in jobs})


def settle_ended(state: ProvisionState, jobs: Sequence[Job]) -> None:
    """Count how those that ended did, each once, and forget requests none of whose jobs is left.

    Not every batch system shows a job at once, nor one that has ended: what is shown in none of several looks is gone.
    """
    by_id = {job.id: job for job in jobs}
    for asked in state.asked:
        missing = [each for each in asked.ids if each not in by_id]
        if missing and asked.looks < LOOKS_BEFORE_LOST:
            asked.looks += 1
            missing = []
        over = [each for each in asked.ids if each in by_id and by_id[each].state in {JobState.ENDED, JobState.HELD}]
        for each in (*missing, *over):
            _count(state, asked, each, by_id.get(each))
        asked.ids = [each for each in asked.ids if each not in {*missing, *over}]
    state.asked = [asked for asked in state.asked if asked.ids or not asked.is_answered]


def _count(state: ProvisionState, asked: Asked, job_id: str, job: Job | None) -> None:
    known = state.of(asked.kind)
    if job is None:
        # Nobody tells how it ended: a launcher that was there has worked.
        failure = "" if job_id in asked.heard else f"job {job_id} is gone, and its launcher was never heard of"
    elif job.state is JobState.HELD:
        failure = f"held: {job.reason}"
    elif job.exit_status is None:
        return
    else:
        failure = f"job {job_id} ended with status {job.exit_status}" if job.exit_status else ""
    known.failures, known.failure = (known.failures + 1, failure) if failure else (0, "")

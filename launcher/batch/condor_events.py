"""From HTCondor's job event log to jobs: the same events, read again from the beginning, give the same jobs.

Source: HTCondor's manual, "Job Event Log Codes".
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from launcher.batch.job import Job, JobState

_STARTS: Final = "EXECUTE"
_BACK: Final = frozenset({"JOB_EVICTED", "JOB_RELEASED", "SHADOW_EXCEPTION", "JOB_RECONNECT_FAILED"})
"""After these it is in the queue again; what follows at once says otherwise, where it is not."""
_NO_END: Final = -1


def followed(known: Mapping[str, Job], tag: str, events: Iterable[Mapping[str, Any]]) -> dict[str, Job]:
    """Return the jobs that the events tell something new of, by their ids."""
    changed: dict[str, Job] = {}
    for event in events:
        key = str(event["id"])
        before = changed.get(key) or known.get(key)
        job = _submitted(tag, event) if event["type"] == "SUBMIT" else before and _after(before, event)
        if job is not None:
            changed[key] = job
    return changed


def _submitted(tag: str, event: Mapping[str, Any]) -> Job:
    told = dict(word.split("=", 1) for word in _words(str(event.get("LogNotes", ""))) if "=" in word)
    return Job(
        id=str(event["id"]),
        tag=tag,
        state=JobState.QUEUED,
        key=told.get("VmbrokerKey", ""),
        user=told.get("VmbrokerUser", ""),
        shape=told.get("VmbrokerShape", ""),
        submitted_s=int(event["at_s"]),
    )


def _words(notes: str) -> list[str]:
    try:
        return shlex.split(notes)
    except ValueError:
        return notes.split()


def _after(job: Job, event: Mapping[str, Any]) -> Job:
    kind, at_s = event["type"], int(event["at_s"])
    if kind == _STARTS:
        return replace(job, state=JobState.RUNNING, started_s=at_s, where=str(event.get("SlotName", "")), reason="")
    if kind == "JOB_HELD":
        return replace(job, state=JobState.HELD, where="", reason=str(event.get("HoldReason", "")))
    if kind == "JOB_ABORTED":
        return replace(job, state=JobState.ENDED, ended_s=at_s, where="", reason=str(event.get("Reason", "")))
    if kind == "JOB_TERMINATED":
        return replace(job, state=JobState.ENDED, ended_s=at_s, where="", reason="", exit_status=_status(event))
    if kind in _BACK:
        return replace(job, state=JobState.QUEUED, where="", reason=str(event.get("Reason", "")))
    return job


def _status(event: Mapping[str, Any]) -> int:
    if event.get("TerminatedNormally"):
        return int(event.get("ReturnValue", _NO_END))
    return -int(event.get("TerminatedBySignal", -_NO_END))

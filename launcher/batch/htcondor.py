"""HTCondor: launcher jobs in the vanilla universe, which run where a slot can run virtual machines.

The credential is a file that HTCondor transfers with the job, encrypted on its way; the ad names the file, not what is
in it. Nothing comes back but what the launcher printed.

Two things tell what became of a job: the access point's queue, which forgets it when it has ended, and the job event
log in the submission's folder, which this account can read with no daemon at all. The queue is believed for what is in
it, the log for what has ended, and for everything while no daemon answers.

Source: HTCondor's manual, condor_submit, "Job ClassAd Attributes", "Job Event Log Codes".
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from broker.wire.jobs import BatchKind
from launcher.batch.condor_events import followed
from launcher.batch.condor_process import MAX_EVENTS, CondorProcess, check_bindings
from launcher.batch.errors import Away, BatchError, Refused
from launcher.batch.job import Job, JobState, Request
from launcher.batch.order import Order
from launcher.batch.script import job_script
from launcher.batch.submission import Submission, Submissions
from launcher.images.public_names import image_attribute

CAN_RUN: Final = "CAN_RUN_VIRTUAL_MACHINE"
"""Of a slot: what `launcher advertise` tells."""
_SUBMIT_S: Final = 60.0
_CALL_S: Final = 30.0
_MAX_JOBS: Final = 20_000
_PLACE_S: Final = 12.0
_COUNTS_HOLD_S: Final = 20.0
"""The pool's slots are counted at most so often."""
_ENDED_SHOWN_S: Final = 86_400
_AT_ONCE: Final = 500
"""Ids in one call to remove jobs."""
_STATES: Final = {
    1: JobState.QUEUED,
    2: JobState.RUNNING,
    3: JobState.ENDING,
    4: JobState.ENDED,
    5: JobState.HELD,
    6: JobState.RUNNING,
    7: JobState.RUNNING,
}
"""JobStatus. Source: HTCondor's manual, "Job ClassAd Attributes"."""
_ATTRIBUTES: Final = [
    "ClusterId", "ProcId", "JobStatus", "QDate", "JobCurrentStartDate", "RemoteHost", "HoldReason", "GlobalJobId",
    "LastRejMatchReason", "VmbrokerTag", "VmbrokerKey", "VmbrokerUser", "VmbrokerShape",
]  # fmt: skip
_OURS: Final = frozenset(
    {
        "allowed_job_duration", "arguments", "dont_encrypt_input_files", "encrypt_input_files", "environment", "error",
        "executable", "getenv", "initialdir", "kill_sig", "log", "output", "queue", "requirements", "universe",
        "should_transfer_files", "submit_event_notes", "transfer_executable", "transfer_input_files",
        "transfer_output_files", "transfer_output_remaps", "when_to_transfer_output",
    }
)  # fmt: skip
"""Submit commands that no --option may replace: without them no launcher runs, or its credential travels otherwise."""


class Slots(NamedTuple):
    """The pool's slots: how many there are, how many can run vms, and why one that cannot does not."""

    total: int
    able: int
    reason: str


class HTCondor:
    """The access point of this machine, as its configuration says."""

    kind = BatchKind.HTCONDOR

    def __init__(self, submissions: Submissions) -> None:
        check_bindings()
        self._submissions = submissions
        self._calls = CondorProcess()
        # Of its own, so that the log can be read while a daemon hangs.
        self._reader = CondorProcess()
        self._place = ""
        self._logged: dict[str, Job] = {}
        self._logged_by = 0
        self._slots = Slots(0, 0, "")
        self._counted_s = -math.inf

    @property
    def place(self) -> str:
        return self._place or "this access point"

    async def locate(self) -> str:
        if not self._place:
            try:
                self._place = str(await self._calls.call("place", _PLACE_S))
            except BatchError:
                return ""
        return self._place

    async def submit(self, request: Request) -> list[str]:
        submission = self._submissions.of(request.tag)
        script = submission.write_script(job_script(self.kind, request.order, request.tag, submission.folder))
        description = describe(request, submission, script)
        ids: list[str] = await self._calls.call("submit", _SUBMIT_S, description=description, count=request.slots)
        return ids

    async def jobs(self, tag: str | None = None) -> list[Job]:
        constraint = "VmbrokerTag =!= undefined" if tag is None else f'VmbrokerTag == "{tag}"'
        place = await self.locate()
        logged = await self.logged(tag, place)
        try:
            ads = await self._calls.call(
                "query", _CALL_S, constraint=constraint, attributes=_ATTRIBUTES, limit=_MAX_JOBS
            )
        except Away as error:
            raise Away(str(error), known=list(logged.values())) from error
        if len(ads) >= _MAX_JOBS:
            raise Away(f"there are {_MAX_JOBS:,} launcher jobs or more, too many to tell them apart: remove some")
        present = {job.id: job for job in map(_job, ads)}
        # Of one that has ended, its log tells how; its ad is about to go.
        ended = {key: _ended(job) for key, job in logged.items() if key not in present or _is_over(job, present[key])}
        since_s = time.time() - _ENDED_SHOWN_S
        recent = {key: job for key, job in ended.items() if (job.ended_s or 0) > since_s}
        return list({**{key: job for key, job in present.items() if key not in ended}, **recent}.values())

    async def logged(self, tag: str | None = None, place: str = "") -> dict[str, Job]:
        """Return the jobs as the event logs have them, by their ids; no daemon is asked.

        Args:
            tag: of the only submission that is wanted.
            place: the access point; what was submitted to another one is left out.
        """
        for submission in self._submissions:
            is_wanted = tag is None or submission.tag == tag
            if is_wanted and place in {"", submission.record().place}:
                for path in sorted(submission.folder.glob("events-*.log")):
                    await self._follow(submission.tag, path)
        return {key: job for key, job in self._logged.items() if tag in {None, job.tag}}

    async def remove(self, jobs: Sequence[Job], *, at_once: bool = False) -> None:
        # A removed job has its job_max_vacate_time; one that is forced out has nothing.
        actions = ("Remove", "RemoveX") if at_once else ("Remove",)
        ids = [job.id for job in jobs if job.state is not JobState.ENDED]
        for start in range(0, len(ids), _AT_ONCE):
            for action in actions:
                some = ids[start : start + _AT_ONCE]
                await self._calls.call("act", _CALL_S, action=action, ids=some, reason="launcher remove")

    async def why_queued(self, jobs: Sequence[Job]) -> str:
        held = [job for job in jobs if job.state is JobState.HELD]
        if held:
            return held[0].reason
        queued = [job for job in jobs if job.state is JobState.QUEUED]
        if not queued:
            return ""
        if time.monotonic() - self._counted_s > _COUNTS_HOLD_S:
            self._slots, self._counted_s = Slots(**await self._calls.call("slots", _CALL_S)), time.monotonic()
        return _why(queued, self._slots)

    async def aclose(self) -> None:
        await self._calls.aclose()
        await self._reader.aclose()

    async def _follow(self, tag: str, path: Path) -> None:
        events = None
        while events is None or len(events) == MAX_EVENTS:
            events = await self._reader.call("events", _CALL_S, path=str(path))
            if self._reader.starts != self._logged_by:
                # A new reader begins every log anew.
                self._logged, self._logged_by = {}, self._reader.starts
            self._logged |= followed(self._logged, tag, events)


def describe(request: Request, submission: Submission, script: Path) -> dict[str, str]:
    """Return the submit description of jobs that run the script.

    Raises:
        Refused: an option would replace what a launcher job is made of.
    """
    order, names = request.order, {name.lower() for name, _ in request.order.options}
    owned = {
        name for name in names if name in _OURS or name.removeprefix("+").removeprefix("my.").startswith("vmbroker")
    }
    if owned:
        raise Refused(f"--option {min(owned)}=… would replace what a launcher job is made of: leave it out")
    return {
        **_of_program(order, submission, script),
        **_of_slot(request),
        **_of_end(order),
        **_of_owner(request, submission),
        **dict(order.options),
    }


def _of_program(order: Order, submission: Submission, script: Path) -> dict[str, str]:
    files = [submission.token, *([submission.authority] if submission.authority.exists() else [])]
    return {
        "universe": "vanilla",
        "executable": str(script),
        "arguments": "$(ClusterId).$(ProcId)",
        "initialdir": str(submission.folder),
        "output": f"{submission.logs.name}/$(ClusterId).$(ProcId).out",
        "error": f"{submission.logs.name}/$(ClusterId).$(ProcId).err",
        "log": str(_event_log(submission)),
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_input_files": ",".join(map(str, [*files, *([order.bundle] if order.bundle else [])])),
        "encrypt_input_files": submission.token.name,
        # Or whatever lies in the job's folder at its end would come back, the credential too.
        "transfer_output_files": "",
    }


def _event_log(submission: Submission) -> Path:
    # A new one each day: old ones can go, while a provisioner stays for months.
    return submission.folder / f"events-{datetime.now(UTC):%Y%m%d}.log"


def _of_slot(request: Request) -> dict[str, str]:
    order = request.order
    wanted = f"({CAN_RUN} == TRUE)"
    rank = {}
    if request.images:
        held = " + ".join(f"({image_attribute(digest)} =?= true)" for digest in request.images)
        rank = {"rank": held}
    return {
        "requirements": wanted if order.requirements is None else f"{wanted} && ({order.requirements})",
        "request_cpus": str(order.vcpus),
        "request_memory": f"{order.memory_mib}M",
        "request_disk": f"{order.disk_mib}M",
        "+RequiresVirtualization": "TRUE",
        **rank,
    }


def _of_end(order: Order) -> dict[str, str]:
    return {
        "kill_sig": "SIGTERM",
        "job_max_vacate_time": str(order.grace_s),
        # The launcher reads it in its job's ad, and drains in time.
        "allowed_job_duration": str(order.runtime_s),
    }


def _of_owner(request: Request, submission: Submission) -> dict[str, str]:
    order = request.order
    told = {"VmbrokerTag": submission.tag, "VmbrokerKey": request.key}
    if request.shape:
        told["VmbrokerShape"] = request.shape
    if len(order.users) == 1:
        told["VmbrokerUser"] = order.users[0]
    accounting = {}
    if order.accounting is not None:
        accounting = {"accounting_group": order.accounting[0], "accounting_group_user": order.accounting[1]}
    return {
        "JobBatchName": submission.tag,
        **{f"+{name}": f'"{value}"' for name, value in told.items()},
        # So that the event log alone tells whose jobs they are.
        "submit_event_notes": " ".join(f"{name}={value}" for name, value in told.items()),
        **accounting,
    }


def _job(ad: dict[str, Any]) -> Job:
    state = _STATES.get(int(ad["JobStatus"]), JobState.QUEUED)
    reason = ad.get("HoldReason") if state is JobState.HELD else ad.get("LastRejMatchReason")
    return Job(
        id=f"{ad['ClusterId']}.{ad['ProcId']}",
        tag=str(ad["VmbrokerTag"]),
        state=state,
        key=str(ad.get("VmbrokerKey", "")),
        user=str(ad.get("VmbrokerUser", "")),
        shape=str(ad.get("VmbrokerShape", "")),
        submitted_s=_time(ad.get("QDate")),
        started_s=_time(ad.get("JobCurrentStartDate")) if state is JobState.RUNNING else None,
        where=str(ad.get("RemoteHost", "")) if state is JobState.RUNNING else "",
        reason=str(reason or "") if state in {JobState.HELD, JobState.QUEUED} else "",
        global_id=str(ad.get("GlobalJobId", "")),
    )


def _time(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and value else None


def _ended(job: Job) -> Job:
    """Return a job that the queue has no more, though its log does not tell of an end."""
    if job.state is JobState.ENDED:
        return job
    return replace(job, state=JobState.ENDED, ended_s=int(time.time()), reason="it is in the queue no more")


def _is_over(logged: Job, present: Job) -> bool:
    return logged.state is JobState.ENDED and present.state is JobState.ENDED


def _why(queued: Sequence[Job], slots: Slots) -> str:
    if not slots.total:
        return "the pool has no slot at all"
    if not slots.able:
        count = (
            "its only slot does not advertise" if slots.total == 1 else f"none of its {slots.total:,} slots advertises"
        )
        return f"{count} {CAN_RUN} = true{f': {slots.reason}' if slots.reason else ''}"
    last = next((job.reason for job in queued if job.reason), "")
    can = f"{slots.able:,} of {slots.total:,} slots can run virtual machines"
    return f"{can}; the last match was refused: {last}" if last else f"{can}, and none has taken them yet"

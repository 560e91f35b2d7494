"""Slurm: launcher jobs as batch scripts, several at once as an array.

The credential stays in the submission's folder, on a file system that the nodes share; the script, which Slurm keeps
and shows, names the file. Before the time limit Slurm signals the script alone, which is the launcher by then.

Source: sbatch(1), squeue(1), scancel(1), slurm.conf(5).
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from broker.wire.jobs import BatchKind
from launcher.batch.errors import Away, BatchError, Refused
from launcher.batch.job import Job, JobState, Request
from launcher.batch.order import Order, check_options
from launcher.batch.programs import directives, said
from launcher.batch.script import job_script
from launcher.batch.submission import TAG, Submission, Submissions

_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_SUBMIT_S: Final = 60.0
_CALL_S: Final = 30.0
_AT_ONCE: Final = 200
_MAX_ARRAY: Final = 1_000
"""Jobs of one array: what Slurm allows where a site sets no MaxArraySize."""
_EPOCH: Final = {"SLURM_TIME_FORMAT": "%s"}
_FIELDS: Final = "%i|%j|%T|%V|%S|%N|%k|%r"
_STATES: Final = {
    "PENDING": JobState.QUEUED,
    "CONFIGURING": JobState.QUEUED,
    "REQUEUED": JobState.QUEUED,
    "REQUEUE_FED": JobState.QUEUED,
    "STAGE_OUT": JobState.ENDING,
    "COMPLETING": JobState.ENDING,
    "SIGNALING": JobState.ENDING,
    "REQUEUE_HOLD": JobState.HELD,
    "SPECIAL_EXIT": JobState.HELD,
    "RESV_DEL_HOLD": JobState.HELD,
    "BOOT_FAIL": JobState.ENDED,
    "CANCELLED": JobState.ENDED,
    "COMPLETED": JobState.ENDED,
    "DEADLINE": JobState.ENDED,
    "FAILED": JobState.ENDED,
    "LAUNCH_FAILED": JobState.ENDED,
    "NODE_FAIL": JobState.ENDED,
    "OUT_OF_MEMORY": JobState.ENDED,
    "PREEMPTED": JobState.ENDED,
    "RECONFIG_FAIL": JobState.ENDED,
    "REVOKED": JobState.ENDED,
    "TIMEOUT": JobState.ENDED,
}
"""Every other one is of a job that is alive: RUNNING, SUSPENDED, STOPPED, RESIZING, and what a later Slurm adds.

Source: squeue(1), "Job state codes".
"""
_OURS: Final = frozenset(
    {
        "D", "J", "a", "array", "c", "chdir", "comment", "cpus-per-task", "e", "error", "export", "input", "job-name",
        "mem", "no-requeue", "nodes", "ntasks", "o", "open-mode", "output", "parsable", "requeue", "signal", "t",
        "time",
        "wrap",
    }
)  # fmt: skip
"""Options that no --option may replace: without them jobs are not found again, or end otherwise."""
_ASKS_OTHERWISE: Final = ("SBATCH_", "SQUEUE_", "SCANCEL_", "SLURM_CLUSTERS")
"""Variables that come before what a script or a command line says."""
_HOLDS: Final = ("JobHeldUser", "JobHeldAdmin", "JobHoldMaxRequeue", "launch failed requeued held")
_MISSING: Final = (
    "sbatch, squeue and scancel are not installed here: run this on a machine where jobs are submitted to Slurm"
)


class Slurm:
    """The cluster that this machine's configuration names."""

    kind = BatchKind.SLURM

    def __init__(self, submissions: Submissions) -> None:
        self._submissions = submissions
        self._place = ""

    @property
    def place(self) -> str:
        return self._place or "this cluster"

    async def locate(self) -> str:
        if not self._place:
            try:
                self._place = await self._cluster()
            except BatchError:
                return ""
        return self._place

    async def submit(self, request: Request) -> list[str]:
        check_options(request.order, _OURS)
        ids: list[str] = []
        while len(ids) < request.slots:
            part = replace(request, slots=min(_MAX_ARRAY, request.slots - len(ids)))
            try:
                ids += await self._submit_array(part)
            except (Refused, Away) as error:
                raise type(error)(str(error), submitted=ids) from error
        return ids

    async def _submit_array(self, request: Request) -> list[str]:
        submission = self._submissions.of(request.tag)
        batch = submission.folder / f"{request.key}.sbatch"
        batch.write_text(batch_script(request, submission), encoding="utf-8")
        try:
            told = await self._said("sbatch", "--parsable", str(batch), limit_s=_SUBMIT_S)
        finally:
            # Slurm has a copy of its own.
            batch.unlink(missing_ok=True)
        number, _, cluster = told.strip().partition(";")
        self._place = cluster or self._place
        if not number.isdigit():
            raise Refused(f"sbatch answers with what is no job's number: {told[:200]!a}")
        return [number] if request.slots == 1 else [f"{number}_{index}" for index in range(1, request.slots + 1)]

    async def jobs(self, tag: str | None = None) -> list[Job]:
        names = ("--name", tag) if tag else ()
        await self.locate()
        told = await self._said(
            "squeue", "--me", "--noheader", "--array", "--states=all", f"--format={_FIELDS}", *names, limit_s=_CALL_S
        )
        jobs = [_job(line) for line in told.splitlines() if line.count("|") >= _FIELDS.count("|")]
        return [job for job in jobs if TAG.fullmatch(job.tag)]

    async def remove(self, jobs: Sequence[Job], *, at_once: bool = False) -> None:
        running = [job.id for job in jobs if job.state is JobState.RUNNING and not at_once]
        others = [
            job.id
            for job in jobs
            if job.state not in {JobState.ENDED, JobState.ENDING, JobState.RUNNING}
            or (at_once and job.state is JobState.RUNNING)
        ]
        # To the batch script alone: to every process, it would end vms before their launcher could.
        # And one that has started meanwhile is none of the queued ones any more: the next look finds it running.
        queued = () if at_once else ("--state=PENDING",)
        for words, ids in ((("--batch", "--signal=TERM"), running), (queued, others)):
            for start in range(0, len(ids), _AT_ONCE):
                await self._said("scancel", "--quiet", *words, *ids[start : start + _AT_ONCE], limit_s=_CALL_S)

    async def why_queued(self, jobs: Sequence[Job]) -> str:
        waiting = [job for job in jobs if job.state in {JobState.HELD, JobState.QUEUED} and job.reason]
        waiting.sort(key=lambda job: job.state is not JobState.HELD)
        return f"Slurm's reason is {waiting[0].reason}" if waiting else ""

    async def aclose(self) -> None:
        """Nothing is open."""

    async def _cluster(self) -> str:
        told = await self._said("scontrol", "show", "config", limit_s=_CALL_S)
        pairs = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
        return next((value.strip() for name, value in pairs.items() if name.strip() == "ClusterName"), "")

    async def _said(self, *words: str, limit_s: float) -> str:
        return await said(
            *words, limit_s=limit_s, missing=_MISSING, is_away=_is_away, environ=_EPOCH, without=_ASKS_OTHERWISE
        )


def batch_script(request: Request, submission: Submission) -> str:
    """Return the job's script, with what the batch system reads in it."""
    kind = BatchKind.SLURM
    script = job_script(kind, request.order, request.tag, submission.folder)
    return directives("#SBATCH", _lines(request, submission), script)


def _lines(request: Request, submission: Submission) -> list[str]:
    order = request.order
    array = [f"--array=1-{request.slots}"] if request.slots > 1 else []
    log = submission.logs / ("%A_%a.log" if array else "%j.log")
    return [
        f"--job-name={request.tag}",
        f"--comment={_comment(request)}",
        f"--output={log}",
        f"--chdir={submission.folder}",
        "--open-mode=append",
        "--export=NIL",
        "--no-requeue",
        "--nodes=1",
        "--ntasks=1",
        *array,
        *_sizes(order),
        *([f"--constraint={order.constraint}"] if order.constraint else []),
        *([f"--partition={order.queue}"] if order.queue else []),
        *(f"--{name}={value}" if value else f"--{name}" for name, value in order.options),
    ]


def _sizes(order: Order) -> list[str]:
    # Not --tmp: where a site tells of no TmpDisk, no node would do.
    minutes = -(-order.runtime_s // 60)
    return [
        f"--cpus-per-task={order.vcpus}",
        f"--mem={order.memory_mib}M",
        f"--time={minutes}",
        # B: to the batch script alone.
        f"--signal=B:TERM@{order.grace_s}",
    ]


def _comment(request: Request) -> str:
    users = request.order.users
    told = {"key": request.key, "user": users[0] if len(users) == 1 else "", "shape": request.shape}
    return ",".join(f"{name}:{value}" for name, value in told.items() if value)


def _job(line: str) -> Job:
    number, name, state, submitted, started, where, comment, reason = line.split("|", _FIELDS.count("|"))
    told = dict(word.split(":", 1) for word in comment.split(",") if ":" in word)
    known = _STATES.get(state.split(" ")[0], JobState.RUNNING)
    if known is JobState.QUEUED and any(reason.startswith(hold) for hold in _HOLDS):
        known = JobState.HELD
    return Job(
        id=number,
        tag=name,
        state=known,
        key=told.get("key", ""),
        user=told.get("user", ""),
        shape=told.get("shape", ""),
        submitted_s=_seconds(submitted),
        started_s=_seconds(started) if known is JobState.RUNNING else None,
        where=where if known is JobState.RUNNING else "",
        reason="" if reason == "None" else reason,
        exit_status=_exit_status(state) if known is JobState.ENDED else None,
    )


def _exit_status(state: str) -> int | None:
    """Return what its state tells of it; one that was cancelled did neither well nor badly."""
    return None if state.startswith("CANCELLED") else int(state != "COMPLETED")


def _seconds(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def _is_away(complaint: str) -> bool:
    words = ("unable to contact", "connection refused", "connection failure", "timed out", "socket", "not responding")
    return any(word in complaint for word in words)

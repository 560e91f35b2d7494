"""PBS and its kin: OpenPBS, Torque, and what speaks as they do, such as Slurm's `qsub`.

One `qsub` a job, since their arrays differ. As with Slurm, the credential stays in the submission's folder, on a file
system that the nodes share.

Source: qsub(1B), qstat(1B), qdel(1B); Torque's administrator guide, "Job submission".
"""

import os
import pwd
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from broker.wire.jobs import BatchKind
from launcher.batch.errors import Away, Refused
from launcher.batch.job import Job, JobState, Request
from launcher.batch.order import check_options
from launcher.batch.programs import directives, said
from launcher.batch.script import job_script
from launcher.batch.submission import TAG, Submission, Submissions

_CALL_S: Final = 30.0
_AT_ONCE: Final = 100
_NUMBER: Final = re.compile(r"\s*(\d+(?:\[\d*\])?(?:\.[A-Za-z0-9._-]+)?)\s*")
_SECONDS: Final = re.compile(r"[0-9]{1,15}")
_STATUS: Final = re.compile(r"-?[0-9]{1,9}")
_STATES: Final = {
    "Q": JobState.QUEUED,
    "W": JobState.QUEUED,
    "T": JobState.QUEUED,
    "M": JobState.QUEUED,
    "H": JobState.HELD,
    "R": JobState.RUNNING,
    "S": JobState.RUNNING,
    "U": JobState.RUNNING,
    "E": JobState.ENDING,
    "C": JobState.ENDED,
    "F": JobState.ENDED,
    "X": JobState.ENDED,
}
"""Source: qstat(1B), job_state."""
_ATTRIBUTE: Final = re.compile(r"^\s+([A-Za-z][\w.]*) = (.*)$", re.MULTILINE)
_GOES_ON: Final = re.compile(r"\n\t(?![A-Za-z][\w.]* = )")
_KEY: Final = re.compile(r"/([0-9a-f]{16})-\d+\.log$")
_OURS: Final = frozenset({"J", "N", "e", "j", "o", "r", "t", "z"})
"""Options that no --option may replace: without them jobs are not found again."""
_UNKNOWN_JOB: Final = ("unknown job", "invalid job id", "has finished", "job is being deleted", "already completed")
_MISSING: Final = "qsub, qstat and qdel are not installed here: run this on a machine where jobs are submitted to PBS"


class Pbs:
    """The server that this machine's commands speak with."""

    kind = BatchKind.PBS

    def __init__(self, submissions: Submissions) -> None:
        self._submissions = submissions
        self._place = ""

    @property
    def place(self) -> str:
        return self._place or "this server"

    async def locate(self) -> str:
        return self._place

    async def submit(self, request: Request) -> list[str]:
        check_options(request.order, _OURS)
        submission = self._submissions.of(request.tag)
        script = batch_script(request, submission)
        batch = submission.folder / f"{request.key}.pbs"
        batch.write_text(script, encoding="utf-8")
        ids: list[str] = []
        try:
            for number in range(1, request.slots + 1):
                # On the command line: Slurm's qsub has its own there, which come before what the script says.
                out = ("-j", "oe", "-o", str(submission.logs / f"{request.key}-{number}.log"))
                ids.append(await self._submitted((*out, str(batch)), ids, submission.folder))
        finally:
            batch.unlink(missing_ok=True)
        return ids

    async def jobs(self, tag: str | None = None) -> list[Job]:
        own = pwd.getpwuid(os.getuid()).pw_name
        found = []
        for number, told in _records(await self._said("qstat", "-f")):
            self._place = self._place or number.partition(".")[2]
            name, owner = told.get("job_name", ""), told.get("job_owner", "").partition("@")[0]
            if TAG.fullmatch(name) and tag in {None, name} and owner in {own, ""}:
                found.append(_job(number, name, told))
        return found

    async def remove(self, jobs: Sequence[Job], *, at_once: bool = False) -> None:  # noqa: ARG002 - their kill_delay is the site's
        ids = [job.id for job in jobs if job.state is not JobState.ENDED]
        for start in range(0, len(ids), _AT_ONCE):
            try:
                await self._said("qdel", *ids[start : start + _AT_ONCE])
            except Refused as error:
                if not any(word in str(error).lower() for word in _UNKNOWN_JOB):
                    raise

    async def why_queued(self, jobs: Sequence[Job]) -> str:
        waiting = [job for job in jobs if job.state in {JobState.HELD, JobState.QUEUED} and job.reason]
        return f"PBS says: {waiting[0].reason}" if waiting else ""

    async def aclose(self) -> None:
        """Nothing is open."""

    async def _submitted(self, words: Sequence[str], before: list[str], folder: Path) -> str:
        try:
            told = await self._said("qsub", *words, folder=folder)
        except (Refused, Away) as error:
            raise type(error)(str(error), submitted=before) from error
        number = _NUMBER.fullmatch(told)
        if number is None:
            raise Refused(f"qsub answers with what is no job's id: {told[:200]!a}", submitted=before)
        self._place = self._place or number[1].partition(".")[2]
        return number[1]

    async def _said(self, *words: str, folder: Path | None = None) -> str:
        return await said(*words, limit_s=_CALL_S, missing=_MISSING, is_away=_is_away, folder=folder)


def batch_script(request: Request, submission: Submission) -> str:
    """Return the job's script, with what the batch system reads in it."""
    kind = BatchKind.PBS
    script = job_script(kind, request.order, request.tag, submission.folder)
    return directives("#PBS", _lines(request), script)


def _lines(request: Request) -> list[str]:
    order = request.order
    hours, rest = divmod(order.runtime_s, 3600)
    # Torque's form, which OpenPBS takes too.
    nodes = f"nodes=1:ppn={order.vcpus}" + (f":{order.constraint}" if order.constraint else "")
    return [
        f"-N {request.tag}",
        f"-l {nodes}",
        f"-l mem={order.memory_mib}mb",
        f"-l walltime={hours:02}:{rest // 60:02}:{rest % 60:02}",
        "-r n",
        *([f"-q {order.queue}"] if order.queue else []),
        *(f"-{name} {value}".rstrip() for name, value in order.options),
    ]


def _records(text: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the id and the attributes, by their names in small letters, of each job in the form of `qstat -f`.

    A long value goes on in lines that begin with a tab, as do names in the form that Slurm's has.
    """
    for record in re.split(r"^Job Id:", text, flags=re.MULTILINE)[1:]:
        number, _, rest = record.partition("\n")
        whole = _GOES_ON.sub("", rest)
        yield number.strip(), {name.lower(): value.strip() for name, value in _ATTRIBUTE.findall(whole)}


def _job(number: str, name: str, told: Mapping[str, str]) -> Job:
    state = _STATES.get(told.get("job_state", "")[:1], JobState.QUEUED)
    status = told.get("exit_status", "")
    key = _KEY.search(told.get("output_path", ""))
    return Job(
        id=number,
        tag=name,
        state=state,
        key=key[1] if key else "",
        submitted_s=_seconds(told.get("qtime") or told.get("ctime", "")),
        started_s=_seconds(told.get("start_time") or told.get("stime", "")) if state is JobState.RUNNING else None,
        where=told.get("exec_host", "") if state is JobState.RUNNING else "",
        reason=told.get("comment", "") if state in {JobState.QUEUED, JobState.HELD} else "",
        exit_status=int(status) if state is JobState.ENDED and _STATUS.fullmatch(status) else None,
    )


def _seconds(text: str) -> int | None:
    """Read `Sat Nov 28 07:05:27 2026`, this machine's time, or seconds."""
    if _SECONDS.fullmatch(text):
        return int(text)
    try:
        # Without a zone in it, it is local time.
        return int(datetime.strptime(text, "%a %b %d %H:%M:%S %Y").astimezone(UTC).timestamp())
    except (ValueError, OverflowError):
        return None


def _is_away(complaint: str) -> bool:
    words = (
        "cannot connect",
        "connection refused",
        "unable to contact",
        "timed out",
        "no default server",
        "not responding",
    )
    return any(word in complaint for word in words)

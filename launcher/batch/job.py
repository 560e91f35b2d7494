"""A launcher job, and what a batch system can be asked to do with such jobs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from broker.wire.jobs import BatchKind
from launcher.batch.order import Order

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class JobState(StrEnum):
    """Where a job is, in words that all three systems have."""

    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    """Set aside by the batch system or a person: it does not start by itself."""
    ENDING = "ending"
    """Told to end, or cleaning up; it takes no more items."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One launcher job as its batch system tells of it. Times are seconds since 1970.

    Attributes:
        id: as the batch system's own commands take it.
        tag: of the submission, or of the provisioner, that it belongs to.
        key: of the one request that brought it in.
        user: whose items it serves; empty: everybody's.
        shape: of a provisioner's jobs, the digest of what their vms need.
        reason: why it does not run, or why it ended, in the batch system's words.
        exit_status: of one that ended, as far as it is told.
        global_id: a name of the job that is never used again, where the system has one.
    """

    id: str
    tag: str
    state: JobState
    key: str = ""
    user: str = ""
    shape: str = ""
    submitted_s: int | None = None
    started_s: int | None = None
    ended_s: int | None = None
    where: str = ""
    reason: str = ""
    exit_status: int | None = None
    global_id: str = ""

    @property
    def launcher(self) -> str:
        """The name under which the broker knows the job's launcher."""
        return launcher_name(self.tag, self.id)


def launcher_name(tag: str, job_id: str) -> str:
    """Return the name of the launcher in a job; the job's script makes the same of what its system tells it."""
    number, _, rest = job_id.partition(".")
    # Behind a PBS job's number is its server, behind an HTCondor cluster's the job's own.
    own = job_id if rest.isdigit() else number
    return f"{tag}-{_NOT_IN_A_NAME.sub('_', own).strip('_')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """So many jobs of one order, brought in at once.

    Attributes:
        tag: of the submission or provisioner that they belong to.
        key: a random word that each of them carries, where the batch system has a place for it.
    """

    order: Order
    tag: str
    slots: int
    key: str
    shape: str = ""
    images: tuple[str, ...] = field(default=())
    """Digests; nodes that hold one come first, where the batch system can rank them."""


class BatchSystem(Protocol):
    """HTCondor, Slurm or PBS. Every call has a deadline of its own, and none stops the event loop."""

    kind: BatchKind

    @property
    def place(self) -> str:
        """Where the jobs are queued, for a person."""

    async def locate(self) -> str:
        """Return the place, asked for once; empty while nobody tells it. Raises nothing but a cancellation."""

    async def submit(self, request: Request) -> list[str]:
        """Bring jobs in; return their ids.

        Raises:
            Refused, Away
        """

    async def jobs(self, tag: str | None = None) -> list[Job]:
        """Return this account's launcher jobs, of one tag or all; ended ones as far as the system still tells of them.

        Raises:
            Away
        """

    async def remove(self, jobs: Sequence[Job], *, at_once: bool = False) -> None:
        """Take queued jobs away, and have running launchers drain; `at_once` does not wait for a drain. Idempotent.

        Raises:
            Refused, Away
        """

    async def why_queued(self, jobs: Sequence[Job]) -> str:
        """Say why those that are queued, or held, do not start; empty when nothing is known.

        Raises:
            Away
        """

    async def aclose(self) -> None:
        """Let go of everything that was opened."""

"""Which batch system is meant, and whom of this account's submissions it concerns."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from broker.wire.jobs import BatchKind
from launcher.batch.htcondor import HTCondor
from launcher.batch.job import BatchSystem
from launcher.batch.pbs import Pbs
from launcher.batch.slurm import Slurm
from launcher.batch.submission import Submissions

SYSTEMS: Final[dict[BatchKind, Callable[[Submissions], BatchSystem]]] = {
    BatchKind.HTCONDOR: HTCondor,
    BatchKind.SLURM: Slurm,
    BatchKind.PBS: Pbs,
}


@asynccontextmanager
async def opened(kind: BatchKind, submissions: Submissions) -> AsyncIterator[BatchSystem]:
    """Speak with a batch system for the block.

    Raises:
        Refused: what that needs is not installed here.
    """
    system = SYSTEMS[kind](submissions)
    try:
        yield system
    finally:
        await system.aclose()


def kinds_in_use(submissions: Submissions) -> list[BatchKind]:
    """Return the batch systems in which submissions of this account may still have jobs."""
    kinds = {submission.record().kind for submission in submissions if submission.record().ended_s is None}
    return [kind for kind in BatchKind if kind in kinds]

"""Launcher jobs: what the queue asks of a batch system, and what the batch system makes of the jobs it was given.

A launcher job is a job of HTCondor, Slurm or PBS whose program is a launcher. Whoever submits them, a person's
`launcher submit` or a provisioner, is known as `TOKEN'S NAME/ITS OWN NAME`, as launchers are.
"""

from enum import StrEnum

from broker.wire.kinds import Message
from broker.wire.states import Accelerator, Exchange

MAX_DEMANDS = 500
"""Most rows of one answer; those of users who were served least lately come first."""


class BatchKind(StrEnum):
    HTCONDOR = "htcondor"
    SLURM = "slurm"
    PBS = "pbs"


class Demand(Message, frozen=True, kw_only=True):
    """Ready items of one user whose vms need the same of a node. Sizes are of one vm, as dispatch counts them."""

    user: str
    ready: int
    vcpus: int
    """1 for a stream that takes whatever is free."""
    memory_mib: int
    disk_mib: int
    accelerator: Accelerator | None = None
    exchange: Exchange = Exchange.NETWORK
    boot_ms: int | None = None
    """The stream's own boot limit; absent: 5 minutes with KVM, 15 with TCG."""
    run_ms: int
    images: tuple[str, ...] = ()
    """Digests of those of its machine's disks that anybody may download, sorted."""


class DemandPage(Message, frozen=True, kw_only=True):
    """`GET /v1/demand`: what is ready for launchers of this token. `is_cut`: there is more than is told."""

    demands: list[Demand]
    is_cut: bool = False


class JobsReport(Message, frozen=True, kw_only=True):
    """`PUT /v1/launcher-jobs/{name}`: what became of a submitter's launcher jobs, as its batch system tells."""

    kind: BatchKind
    place: str
    """Where they are queued, in the words of that system: an access point, a cluster, a server."""
    queued: int = 0
    running: int = 0
    held: int = 0
    sentence: str = ""
    """Why the queued ones do not start, or the held ones are held, as far as the batch system tells."""
    users: tuple[str, ...] = ()
    """Whose items they are for; empty: everybody whom the token covers."""
    queued_since: str | None = None
    """RFC 3339: when the oldest of the queued was submitted."""


class JobsView(Message, frozen=True, kw_only=True):
    """What a submitter told last, and when. `jobs` is TOKEN'S NAME/ITS OWN NAME."""

    jobs: str
    told_at: str
    report: JobsReport


class JobsPage(Message, frozen=True, kw_only=True):
    """`GET /v1/launcher-jobs`: those told in the last day, the latest first."""

    jobs: list[JobsView]

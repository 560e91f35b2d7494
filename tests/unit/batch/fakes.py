"""A batch system and a broker in memory, for what the provisioner does with theirs.

The batch system passes the same contract tests as the real ones: tests/grid/test_contract.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from broker.wire.dispatches import Room
from broker.wire.jobs import BatchKind, Demand, DemandPage
from broker.wire.launchers import Health, LauncherReport, LauncherView
from broker.wire.states import Accelerator, HealthState
from launcher.batch.errors import Away, Refused
from launcher.batch.job import Job, JobState, Request

ROOM = Room(vcpus=1, memory_mib=1_024, disk_mib=20_480, accelerator=Accelerator.TCG)


class FakeSystem:
    """Queues what it is given; `start` and `end` do what a node would.

    Attributes:
        is_away: nothing is answered.
        loses_answers: of submissions, which take place.
        refuses: the user whose jobs no node would take.
        shows_late: a new job is not among those of the first look.
        keeps_keys: as HTCondor and Slurm do, and not every PBS.
    """

    kind = BatchKind.HTCONDOR
    place = "memory"

    def __init__(self) -> None:
        self.all: dict[str, Job] = {}
        self.requests: list[Request] = []
        self.is_away = False
        self.loses_answers = False
        self.refuses: tuple[str, ...] = ()
        self.shows_late = False
        self.keeps_keys = True
        self._clusters = 0
        self._new: set[str] = set()

    async def locate(self) -> str:
        return self.place

    async def submit(self, request: Request) -> list[str]:
        self._check()
        if request.order.users[:1] == self.refuses[:1] and self.refuses:
            raise Refused("no node is so large")
        self._clusters += 1
        self.requests.append(request)
        users = request.order.users
        jobs = [
            Job(
                id=f"{self._clusters}.{number}",
                tag=request.tag,
                state=JobState.QUEUED,
                key=request.key if self.keeps_keys else "",
                user=users[0] if users and self.keeps_keys else "",
                shape=request.shape if self.keeps_keys else "",
                submitted_s=self._clusters * 1_000 + number,
            )
            for number in range(request.slots)
        ]
        self.all |= {job.id: job for job in jobs}
        self._new = {job.id for job in jobs}
        if self.loses_answers:
            raise Away("the answer was lost")
        return [job.id for job in jobs]

    async def jobs(self, tag: str | None = None) -> list[Job]:
        self._check()
        hidden, self._new = (self._new if self.shows_late else set()), set()
        return [job for job in self.all.values() if tag in {None, job.tag} and job.id not in hidden]

    async def remove(self, jobs: Sequence[Job], *, at_once: bool = False) -> None:
        self._check()
        for job in jobs:
            self.end([job.id])

    async def why_queued(self, jobs: Sequence[Job]) -> str:
        return "no slot is free" if any(job.state is JobState.QUEUED for job in jobs) else ""

    async def aclose(self) -> None:
        """Nothing is open."""

    def of(self, state: JobState) -> list[Job]:
        return [job for job in self.all.values() if job.state is state]

    def start(self, ids: Iterable[str], started_s: int | None = None) -> None:
        for each in ids:
            self.all[each] = replace(self.all[each], state=JobState.RUNNING, started_s=started_s)

    def hold(self, ids: Iterable[str], reason: str) -> None:
        for each in ids:
            self.all[each] = replace(self.all[each], state=JobState.HELD, reason=reason)

    def end(self, ids: Iterable[str], status: int | None = None) -> None:
        for each in ids:
            self.all[each] = replace(self.all[each], state=JobState.ENDED, exit_status=status)

    def _check(self) -> None:
        if self.is_away:
            raise Away("the batch system does not answer")


class FakeBroker:
    """Says what a test wants to be ready and to be there."""

    def __init__(self, *demands: Demand) -> None:
        self.demands = list(demands)
        self.views: list[LauncherView] = []

    async def demand(self) -> DemandPage:
        return DemandPage(demands=self.demands)

    async def launchers(self) -> list[LauncherView]:
        return self.views

    def hear(self, name: str, *, free: Room | None = ROOM, state: HealthState = HealthState.HEALTHY) -> None:
        report = LauncherReport(node="n", total=ROOM, free=free, health=Health(state=state))
        view = LauncherView(launcher=f"site/{name}", node="n", heard_at="", is_gone=False, report=report)
        self.views.append(view)


def demand(user: str = "alice", ready: int = 12, **changes: object) -> Demand:
    values: dict[str, object] = {
        "user": user,
        "ready": ready,
        "vcpus": 1,
        "memory_mib": 1_024,
        "disk_mib": 10_240,
        "run_ms": 3_600_000,
        **changes,
    }
    return Demand(**values)  # type: ignore[arg-type] # a test names fields of a Demand

"""The provisioner: keeps launcher jobs in step with what is ready, one look after the other.

What is authoritative: the broker for what is ready and which launchers are there, the batch system for which jobs are.
Its own file holds what neither tells. A look in which one of the two does not answer changes nothing: jobs that run do
well without it, and a job too few is asked for a look later.
"""

import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog

from broker.client.session import CallError
from broker.wire.jobs import Demand, DemandPage
from broker.wire.launchers import LauncherView
from broker.wire.states import HealthState
from launcher.batch.errors import Away, BatchError, Refused
from launcher.batch.job import BatchSystem, Job, JobState, Request
from launcher.batch.looking import why_queued
from launcher.batch.order import Order
from launcher.batch.planning import Decision, Kind, Limits, Situation, plan
from launcher.batch.provision_state import ProvisionState, write_state
from launcher.batch.reconciling import kind_of, note_heard, reconcile, settle_ended, unseen
from launcher.batch.shapes import fitting_in, order_for, shape_of, size_told, vms_of, why_not
from launcher.batch.submission import Submission

log = structlog.get_logger()

_ASKING: Final = frozenset({HealthState.HEALTHY, HealthState.CANARY})
"""Of launchers in another state, nobody knows whether they will ask for an item."""
_MAX_KINDS: Final = 200
_STARTS_WITHIN_S: Final = 900
"""From a job's start to its launcher's first word: a bundle that travels to a busy node, and its probes."""


class Broker(Protocol):
    """What the provisioner asks of the broker; each may raise `CallError`."""

    async def demand(self) -> DemandPage:
        """Return what is ready."""

    async def launchers(self) -> list[LauncherView]:
        """Return the launchers of this token that are there."""


class Look(NamedTuple):
    """What one look saw."""

    demands: Sequence[Demand]
    launchers: Sequence[LauncherView]
    jobs: Sequence[Job]


class Provisioner:
    """Over one batch system, for one broker.

    Args:
        broker: where the demand is.
        system: where the jobs are.
        submission: the folder, whose script and credential the jobs have.
        state: what is remembered; changed in place, and written down.
        base: what every job gets at least.
        limits: over all jobs.
        group: HTCondor's accounting group.
    """

    def __init__(
        self,
        broker: Broker,
        system: BatchSystem,
        submission: Submission,
        state: ProvisionState,
        base: Order,
        limits: Limits,
        *,
        group: str | None,
    ) -> None:
        self._broker = broker
        self._system = system
        self._submission = submission
        self._base = base
        self._limits = limits
        self._group = group
        self.state = state
        state.hard, state.soft, state.most_queued = limits.hard, limits.soft, limits.queued

    async def run_once(self) -> list[Job]:
        """Look, decide, act; write down what came of it. Returns the jobs that were seen, none where none could be."""
        try:
            look = Look(
                (await self._broker.demand()).demands[:_MAX_KINDS],
                await self._broker.launchers(),
                await self._system.jobs(self.state.tag),
            )
            await self._act_on(look)
        except (CallError, BatchError) as error:
            self._note_trouble(str(error))
            return []
        self.state.looked_s, self.state.trouble = int(time.time()), ""
        self._write()
        return list(look.jobs)

    async def _act_on(self, look: Look) -> None:
        now_s = int(time.time())
        reconcile(self.state, look.jobs)
        note_heard(self.state, look.jobs, {view.launcher.rpartition("/")[2] for view in look.launchers})
        settle_ended(self.state, look.jobs)
        await self._remove_held(look.jobs)
        situations = self._situations(look, now_s)
        decisions = plan(situations, self._limits)
        self._note(decisions, look)
        for kind, decision in decisions.items():
            if decision.remove:
                gone = [job for job in look.jobs if job.id in set(decision.remove)]
                log.info("jobs_removed", user=kind.user, jobs=len(gone), reason=decision.sentence)
                await self._system.remove(gone)
        wanted = {_kind(demand): demand for demand in look.demands}
        for kind, decision in decisions.items():
            if decision.ask and kind in wanted:
                await self._ask(kind, wanted[kind], decision, now_s)
        self.state.why = await why_queued(self._system, look.jobs)

    async def _ask(self, kind: Kind, demand: Demand, decision: Decision, now_s: int) -> None:
        order = order_for(demand, self._base, group=self._group)
        request = Request(
            order=order,
            tag=self.state.tag,
            slots=decision.ask,
            key=secrets.token_hex(8),
            shape=kind.shape,
            images=demand.images,
        )
        asked = self.state.begin(request.key, kind, decision.ask, now_s)
        # Before it is asked: a provisioner that dies meanwhile finds the jobs again, and asks for no others.
        self._write()
        try:
            asked.ids = await self._system.submit(request)
        except Away as error:
            log.warning("submission_not_answered", user=kind.user, slots=decision.ask, reason=str(error))
            if error.submitted:
                asked.ids, asked.is_answered = list(error.submitted), True
            raise
        except Refused as error:
            # Of this kind alone: a vm that no node holds keeps nobody else's jobs away.
            log.warning("submission_refused", user=kind.user, slots=decision.ask, reason=str(error))
            known = self.state.of(kind)
            known.failures, known.failure = known.failures + 1, str(error)
            asked.ids = list(error.submitted)
            if not asked.ids:
                self.state.asked.remove(asked)
        asked.is_answered = True
        if asked.ids:
            log.info("jobs_submitted", user=kind.user, jobs=len(asked.ids), reason=decision.sentence)
        self._write()

    async def _remove_held(self, jobs: Iterable[Job]) -> None:
        """Take away what the batch system set aside: it would count as coming, and never come."""
        held = [job for job in jobs if job.state is JobState.HELD]
        for job in held:
            log.warning("job_held", job=job.id, reason=job.reason)
        if held:
            await self._system.remove(held)

    def _situations(self, look: Look, now_s: int) -> dict[Kind, Situation]:
        """Return what is known of each kind, those first that the broker names first."""
        demands = _by_kind(look.demands)
        kinds = [*demands, *(kind for kind in self._kinds_with_jobs(look.jobs) if kind not in demands)]
        return {kind: self._situation(kind, demands.get(kind), look, now_s) for kind in kinds}

    def _kinds_with_jobs(self, jobs: Iterable[Job]) -> list[Kind]:
        alive = {kind_of(self.state, job) for job in jobs if job.state in {JobState.QUEUED, JobState.RUNNING}}
        return sorted(alive | {asked.kind for asked in self.state.asked})

    def _situation(self, kind: Kind, demand: Demand | None, look: Look, now_s: int) -> Situation:
        own = [job for job in look.jobs if kind_of(self.state, job) == kind]
        queued = sorted((job for job in own if job.state is JobState.QUEUED), key=lambda job: job.submitted_s or 0)
        running = [job for job in own if job.state is JobState.RUNNING]
        heard = {view.launcher.rpartition("/")[2]: view for view in look.launchers if not view.is_gone}
        names = {job.launcher for job in running}
        unheard = [job for job in running if job.launcher not in heard]
        late = [job for job in unheard if job.started_s is not None and now_s - job.started_s > _STARTS_WITHIN_S]
        known = self.state.of(kind)
        can_serve = demand is not None and not why_not(demand, self._base)
        return Situation(
            ready=demand.ready if demand is not None and can_serve else 0,
            vms=1 if demand is None else vms_of(order_for(demand, self._base, group=self._group), demand),
            queued=tuple(job.id for job in queued),
            unresolved=sum(unseen(each, look.jobs) for each in self.state.asked if each.kind == kind),
            starting=len(unheard) - len(late),
            silent=len(late),
            idle=_room_for(demand, (heard[name] for name in names if name in heard)),
            elsewhere=_room_for(demand, (view for name, view in heard.items() if not name.startswith(self.state.tag))),
            running=len(running),
            failures=known.failures,
            too_many=known.too_many,
        )

    def _note(self, decisions: dict[Kind, Decision], look: Look) -> None:
        demands = {_kind(demand): demand for demand in look.demands}
        self.state.kinds = [each for each in self.state.kinds if Kind(each.user, each.shape) in decisions]
        for kind, decision in decisions.items():
            known, demand = self.state.of(kind), demands.get(kind)
            known.too_many, known.asked, known.removed = decision.too_many, decision.ask, len(decision.remove)
            known.sentence = decision.sentence
            if demand is not None:
                known.size = size_told(demand)
                known.sentence = why_not(demand, self._base) or decision.sentence
        count = {state: sum(job.state is state for job in look.jobs) for state in JobState}
        self.state.queued, self.state.running = count[JobState.QUEUED], count[JobState.RUNNING]
        self.state.held = count[JobState.HELD]

    def _note_trouble(self, trouble: str) -> None:
        if trouble != self.state.trouble:
            log.warning("look_failed", reason=trouble)
        self.state.trouble = trouble
        self._write()

    def _write(self) -> None:
        write_state(self._submission.folder, self.state)


def _kind(demand: Demand) -> Kind:
    return Kind(demand.user, shape_of(demand))


def _by_kind(demands: Iterable[Demand]) -> dict[Kind, Demand]:
    """Return one demand of each kind, with the ready items of all that are of it, the largest limits first."""
    found: dict[Kind, Demand] = {}
    for demand in demands:
        kind = _kind(demand)
        before = found.get(kind)
        found[kind] = demand if before is None else _joined(before, demand)
    return found


def _joined(one: Demand, other: Demand) -> Demand:
    """Return one demand for both; they differ in their limits of time and their images alone."""
    longer, shorter = (one, other) if one.run_ms >= other.run_ms else (other, one)
    return msgspec.structs.replace(longer, ready=one.ready + other.ready, images=longer.images or shorter.images)


def _room_for(demand: Demand | None, views: Iterable[LauncherView]) -> int:
    """Return how many vms of the demand these launchers could begin with now."""
    if demand is None:
        return 0
    reports = [view.report for view in views if not view.report.users or demand.user in view.report.users]
    return sum(
        fitting_in(report.free, demand)
        for report in reports
        if report.free is not None and report.health.state in _ASKING
    )

"""A provisioner at work: looks at its pace, the broker told of its jobs, until a signal."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

from broker.client.dispatch import DispatchClient
from broker.client.researcher import Researcher
from broker.client.session import Patience, Session
from broker.wire.jobs import DemandPage
from broker.wire.launchers import MAX_USERS, LauncherView
from launcher.batch.errors import Refused
from launcher.batch.job import BatchSystem, JobState
from launcher.batch.order import Order
from launcher.batch.planning import Limits
from launcher.batch.provision_state import read_state
from launcher.batch.provisioner import Provisioner
from launcher.batch.submission import Submission
from launcher.batch.submitting import Credential, report_of, tell_broker

log = structlog.get_logger()

_PATIENCE: Final = Patience(attempts=2, total_s=20.0)
_MAX_LAUNCHERS: Final = 20_000
_PRUNE_S: Final = 3_600.0


class BrokerView:
    """The broker, as a provisioner sees it."""

    def __init__(self, session: Session) -> None:
        self._dispatches = DispatchClient(session)
        self._reader = Researcher(session)

    async def demand(self) -> DemandPage:
        """Return what is ready."""
        return await self._dispatches.demand(patience=_PATIENCE)

    async def launchers(self) -> list[LauncherView]:
        """Return the launchers of this token, as many as are looked at."""
        found: list[LauncherView] = []
        async for view in self._reader.launchers():
            if view.is_gone or len(found) >= _MAX_LAUNCHERS:
                break
            found.append(view)
        return found


class Provisioning:
    """Runs one provisioner until SIGTERM or SIGINT; its jobs stay."""

    def __init__(
        self, system: BatchSystem, submission: Submission, base: Order, limits: Limits, group: str | None
    ) -> None:
        self._system = system
        self._submission = submission
        self._base = base
        self._limits = limits
        self._group = group
        self._pruned_s = 0.0

    async def run(self, every_s: float, find_credential: Callable[[], Credential]) -> None:
        """Look every `every_s`.

        Args:
            every_s: from the end of a look to the next.
            find_credential: reads the login anew before each look: a token that was renewed goes to the next jobs.

        Raises:
            Refused: what is remembered cannot be read.
        """
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        state = read_state(self._submission.folder, self._submission.tag)
        credential = find_credential()
        while not stop.is_set():
            credential = self._renewed(credential, find_credential)
            async with _view(credential) as broker:
                provisioner = Provisioner(
                    broker, self._system, self._submission, state, self._base, self._limits, group=self._group
                )
                await _until(stop, self._look(provisioner, credential))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await stop.wait()

    async def _look(self, provisioner: Provisioner, credential: Credential) -> None:
        jobs = await provisioner.run_once()
        state = provisioner.state
        if state.trouble == "":
            present = [job for job in jobs if job.state is not JobState.ENDED]
            users = tuple(sorted({job.user for job in present if job.user}))[:MAX_USERS]
            report = report_of(self._system, present, state.why, users)
            await tell_broker(credential, self._submission.tag, report)
        if time.monotonic() - self._pruned_s > _PRUNE_S:
            self._pruned_s = time.monotonic()
            await asyncio.to_thread(self._submission.prune, time.time())

    def _renewed(self, credential: Credential, find_credential: Callable[[], Credential]) -> Credential:
        try:
            found = find_credential()
        except Refused as error:
            log.warning("login_not_read", reason=str(error))
            return credential
        if found != credential:
            self._submission.write_credential(found.login, found.ca_pem)
            log.info("credential_renewed")
        return found


@asynccontextmanager
async def _view(credential: Credential) -> AsyncIterator[BrokerView]:
    async with Session(credential.login.url, token=credential.login.token, ca_pem=credential.ca_pem) as session:
        yield BrokerView(session)


async def _until(stop: asyncio.Event, look: Coroutine[Any, Any, None]) -> None:
    """Run a look to its end, unless told to stop; a submission that is under way then is found by the next start."""
    task = asyncio.ensure_future(look)
    told = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, told), return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
    if not task.cancelled():
        task.result()

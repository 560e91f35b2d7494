"""That a launcher is there, and how it is: told to its broker at every heartbeat, kept in a file for its node.

Each change is told as well, many at once as one. Nobody who does not hear it ends anything: a broker that is away
learns the rest when it is back, and a node whose disk is full has its vms to tell so.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

import structlog

from broker.client.dispatch import DispatchClient
from broker.client.session import ONCE, ApiError, CallError, Patience
from broker.wire.launchers import LauncherReport
from launcher.node.standing import Standing
from launcher.node.state_file import MAX_VMS, LauncherState, started_ticks, write_state

log = structlog.get_logger()

_LEAST_S: Final = 1.0
"""Between two reports: a change waits for those that come with it."""
_AFTER_FAILURE_S: Final = 20.0
_LONGEST_S: Final = 300.0
_FILE_S: Final = 60.0
"""The file is written anew so often without any change."""
_LEAVING = Patience(attempts=3, total_s=5.0, max_delay_s=1.0)


@dataclass(frozen=True, slots=True)
class About:
    """What a launcher tells of itself that never changes."""

    name: str
    broker: str
    node_name: str
    client: str
    labels: Mapping[str, str] = field(default_factory=dict)
    contact: str = ""
    users: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each size of the slot comes from."""


class Presence:
    """Tells the broker of the launcher until it is cancelled."""

    def __init__(self, dispatches: DispatchClient, standing: Standing, about: About) -> None:
        self._dispatches = dispatches
        self._standing = standing
        self._about = about
        self._is_heard = True

    async def keep(self) -> NoReturn:
        """Report at every heartbeat of the broker's and at each change."""
        await _tell_changes(self._standing, self.report_once)

    async def report_once(self) -> float:
        """Report; return the seconds until the next is due."""
        try:
            told = await self._dispatches.tell(self._about.name, _report(self._standing, self._about), patience=ONCE)
        except CallError as error:
            if self._is_heard:
                log.warning("report_not_answered", reason=str(error))
            self._is_heard = False
            return _AFTER_FAILURE_S
        self._is_heard = True
        return min(_LONGEST_S, told.next_ms / 1000)

    async def leave(self) -> None:
        """Tell the broker that the launcher is no more. One that is away finds out by its silence."""
        try:
            await self._dispatches.leave(self._about.name, patience=_LEAVING)
        except ApiError as error:
            log.warning("leave_refused", reason=str(error))
        except CallError as error:
            log.warning("leave_not_answered", reason=str(error))


async def keep_state_file(scratch: Path, standing: Standing, about: About) -> NoReturn:
    """Keep the launcher's state file as it stands, until cancelled."""
    began = datetime.now(UTC)

    async def write() -> float:
        try:
            await asyncio.to_thread(write_state, scratch, _state(standing, about, began))
        except OSError as error:
            log.warning("state_not_written", reason=str(error))
        return _FILE_S

    await _tell_changes(standing, write)


async def _tell_changes(standing: Standing, tell: Callable[[], Awaitable[float]]) -> NoReturn:
    while True:
        changes = standing.changes
        due_s = await tell()
        await asyncio.sleep(_LEAST_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due_s - _LEAST_S)):
                await standing.wait_changed(changes)


def _report(standing: Standing, about: About) -> LauncherReport:
    return LauncherReport(
        node=about.node_name,
        client=about.client,
        total=standing.total,
        free=standing.room(),
        vms=len(standing.vms),
        health=standing.health,
        labels=dict(about.labels),
        contact=about.contact,
        users=about.users,
    )


def _state(standing: Standing, about: About, began: datetime) -> LauncherState:
    ticks = started_ticks(os.getpid())
    assert ticks is not None, "this process is there"
    end = standing.slot.end
    return LauncherState(
        name=about.name,
        pid=os.getpid(),
        started_ticks=ticks,
        broker=about.broker,
        since=began.isoformat(timespec="seconds"),
        written_at=datetime.now(UTC).isoformat(timespec="seconds"),
        health=standing.health,
        total=standing.total,
        free=standing.room(),
        vm_count=len(standing.vms),
        vms=list(standing.vms.all())[:MAX_VMS],
        sources=dict(about.sources),
        ends_at=None if end is None else datetime.fromtimestamp(end.value, UTC).isoformat(timespec="seconds"),
    )

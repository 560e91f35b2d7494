"""Launchers: what each tells of itself and its node, and which are there. No act on an item is decided by it."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import structlog

from broker.domain.errors import Conflict
from broker.domain.limits import LIMITS
from broker.store.arguments import RemoveLauncher, ReportLauncher
from broker.store.reading import Reading
from broker.store.records import Hash, encode_json, rfc3339
from broker.store.scripts import Word
from broker.wire.dispatches import Room
from broker.wire.launchers import LauncherReport, LauncherView

log = structlog.get_logger(__name__)

MAX_LISTED = 20_000
"""So many are listed and counted, those first that were heard last."""


class KnownLauncher(NamedTuple):
    """A launcher that was heard of in the last day; `serves`, `labels`: of the token with which it told."""

    view: LauncherView
    serves: str
    labels: frozenset[str] = frozenset()


class Heard(NamedTuple):
    """When a launcher was last heard, in the order of a listing: those that are there first, then by name."""

    is_gone: bool
    launcher: str
    heard_ms: int


class Launchers(Reading):
    async def report_launcher(
        self, launcher: str, report: LauncherReport, serves: str, labels: Iterable[str] = ()
    ) -> None:
        """Note that a launcher is there and what it tells; the last report stands, for a day at most.

        Raises:
            Conflict: TOO_MANY_LAUNCHERS: as many of its token as may be are there.
            Unavailable: repeat it.
        """
        reply = await self._server.act(
            ReportLauncher(
                launcher=launcher,
                report=encode_json(report),
                serves=serves,
                labels=encode_json(sorted(labels)),
                silence_ms=self._deadlines.launcher_grace_ms,
            ),
            launchers=self._keys.launchers,
            launchers_of=self._keys.launchers_of,
            reports=self._keys.reports,
        )
        if reply.word == Word.FULL:
            raise too_many_launchers()

    async def remove_launcher(self, launcher: str) -> None:
        """Forget a launcher that ends; idempotent. It counts as gone at once: end its vms before.

        Raises:
            Unavailable: repeat it.
        """
        await self._server.act(
            RemoveLauncher(launcher=launcher),
            launchers=self._keys.launchers,
            launchers_of=self._keys.launchers_of,
            reports=self._keys.reports,
        )

    async def heard_launchers(self) -> list[Heard]:
        """Return all that were heard of in the last day, in an order that heartbeats do not change."""
        now_ms = await self._now_ms()
        flat = await self._server.command("ZRANGE", self._keys.launchers, 0, MAX_LISTED - 1, "REV", "WITHSCORES")
        grace_ms = self._deadlines.launcher_grace_ms
        heard = (int(float(score)) for score in flat[1::2])
        return sorted(
            Heard(now_ms - at_ms > grace_ms, launcher, at_ms) for launcher, at_ms in zip(flat[::2], heard, strict=True)
        )

    async def known_launchers(self, heard: list[Heard]) -> list[KnownLauncher]:
        """Return what those told of themselves that told anything, in the same order, in one round trip."""
        now_ms = await self._now_ms()
        records = await self._server.commands([("HGETALL", self._keys.launcher(each.launcher)) for each in heard])
        known = [_known(each, record, now_ms) for each, record in zip(heard, records, strict=True) if record]
        return [each for each in known if each is not None]

    async def reports_of(self, launchers: Iterable[str]) -> dict[str, KnownLauncher]:
        """Return what those of these launchers that are there told of themselves, by their names."""
        now_ms = await self._now_ms()
        known = await self.known_launchers([Heard(False, launcher, now_ms) for launcher in launchers])
        return {each.view.launcher: each for each in known}


def too_many_launchers() -> Conflict:
    bound = LIMITS["launchers"]
    return Conflict(
        bound.problem,
        f"{bound.default} launchers of this token are there, and no more are taken: give the others another token",
    )


def _known(heard: Heard, record: Hash, now_ms: int) -> KnownLauncher | None:
    try:
        report = msgspec.json.decode(record["report"], type=LauncherReport)
    except msgspec.DecodeError as error:
        log.warning("report_not_readable", launcher=heard.launcher, reason=str(error))
        return None
    passed_ms = max(0, now_ms - int(record["told_ms"]))
    report = msgspec.structs.replace(
        report,
        total=_later(report.total, passed_ms),
        free=_later(report.free, passed_ms) if report.free is not None else None,
    )
    view = LauncherView(
        launcher=heard.launcher,
        node=report.node,
        heard_at=rfc3339(heard.heard_ms),
        is_gone=heard.is_gone,
        report=report,
    )
    labels = frozenset(msgspec.json.decode(record.get("labels", "[]"), type=list[str]))
    return KnownLauncher(view, record["serves"], labels)


def _later(room: Room, passed_ms: int) -> Room:
    """Return a room as it is some time after it was told."""
    if room.time_left_ms is None:
        return room
    return msgspec.structs.replace(room, time_left_ms=max(0, room.time_left_ms - passed_ms))

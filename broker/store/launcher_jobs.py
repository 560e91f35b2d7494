"""What submitters tell of their launcher jobs: kept for a day, for people who wonder what an item waits for."""

from typing import NamedTuple

import msgspec
import structlog

from broker.domain.limits import default
from broker.store.arguments import RemoveJobs, ReportJobs
from broker.store.reading import Reading
from broker.store.records import Hash, encode_json, rfc3339
from broker.wire.jobs import JobsReport, JobsView

log = structlog.get_logger(__name__)


class KnownJobs(NamedTuple):
    """What a submitter told, how long ago, and the scopes of the token with which it did."""

    view: JobsView
    serves: str
    age_ms: int


class LauncherJobs(Reading):
    async def report_jobs(self, submitter: str, report: JobsReport, serves: str) -> None:
        """Note what a submitter tells; the last report stands, for a day at most.

        Each submission by hand is a submitter. Beyond the limits the one that told nothing for longest makes room,
        first of the same token.

        Raises:
            Unavailable: repeat it.
        """
        await self._server.act(
            ReportJobs(submitter=submitter, report=encode_json(report), serves=serves),
            submitters=self._keys.submitters,
            submitters_of=self._keys.submitters_of,
            told_of=self._keys.told_of,
        )

    async def remove_jobs(self, submitter: str) -> None:
        """Forget a submitter that has no jobs any more; idempotent.

        Raises:
            Unavailable: repeat it.
        """
        await self._server.act(
            RemoveJobs(submitter=submitter),
            submitters=self._keys.submitters,
            submitters_of=self._keys.submitters_of,
            told_of=self._keys.told_of,
        )

    async def known_jobs(self) -> list[KnownJobs]:
        """Return what was told in the last day, the latest first."""
        now_ms = await self._now_ms()
        names = await self._server.command("ZRANGE", self._keys.submitters, 0, default("all_submitters") - 1, "REV")
        records = await self._server.commands([("HGETALL", f"{self._keys.told_of}{name}") for name in names])
        known = [_known(name, record, now_ms) for name, record in zip(names, records, strict=True) if record]
        return [each for each in known if each is not None]


def _known(submitter: str, record: Hash, now_ms: int) -> KnownJobs | None:
    try:
        report = msgspec.json.decode(record["report"], type=JobsReport)
    except msgspec.DecodeError as error:
        log.warning("report_not_readable", submitter=submitter, reason=str(error))
        return None
    told_ms = int(record["told_ms"])
    view = JobsView(jobs=submitter, told_at=rfc3339(told_ms), report=report)
    return KnownJobs(view, record["serves"], max(0, now_ms - told_ms))

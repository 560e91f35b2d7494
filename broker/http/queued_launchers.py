"""What a ready item may wait for in a batch system: launcher jobs that are queued, held, or have just started."""

from collections.abc import Sequence
from typing import Final

from broker.domain import durations
from broker.store import KnownJobs
from broker.wire.items import Reason
from broker.wire.jobs import BatchKind

_FRESH_MS: Final = 120_000
"""What was told so lately is told as of now."""
_STARTS_WITHIN_MS: Final = 300_000
"""A job that runs for so long, and whose launcher was not heard of, is not about to be."""
_NAMES: Final = {BatchKind.HTCONDOR: "HTCondor", BatchKind.SLURM: "Slurm", BatchKind.PBS: "PBS"}


def awaited(known: Sequence[KnownJobs], *, is_heard: bool = False) -> Reason | None:
    """Return what is known of launcher jobs that would serve an item, None where there are none to wait for.

    Args:
        known: what submitters told whose launchers would serve the item's user.
        is_heard: a launcher that serves the user is there: it may be that of a job that runs.
    """
    queued = [each for each in known if each.view.report.queued]
    if queued:
        return _waiting("jobs_queued", queued, "queued")
    started = [each for each in known if each.view.report.running and each.age_ms < _STARTS_WITHIN_MS]
    if started and not is_heard:
        return Reason(code="jobs_starting", sentence=_started(started))
    held = [each for each in known if each.view.report.held]
    return _waiting("jobs_held", held, "held") if held else None


def _waiting(code: str, known: Sequence[KnownJobs], word: str) -> Reason:
    """Tell of all submitters together, and why in the words of the one with the most."""
    first = max(known, key=lambda each: int(getattr(each.view.report, word)))
    report, count = first.view.report, sum(int(getattr(each.view.report, word)) for each in known)
    others = f" and {_others(len(known) - 1)}" if len(known) > 1 else ""
    since = f" since {report.queued_since}" if word == "queued" and report.queued_since else ""
    why = f": {report.sentence}" if report.sentence else ""
    told = "" if first.age_ms < _FRESH_MS else f" (told {durations.shown(first.age_ms)} ago)"
    place = f"{_NAMES[report.kind]} at {report.place}{others}"
    return Reason(code=code, sentence=f"{_jobs(count)} {word} in {place}{since}{told}{why}")


def _started(known: Sequence[KnownJobs]) -> str:
    count = sum(each.view.report.running for each in known)
    report = known[0].view.report
    where = f"started in {_NAMES[report.kind]} at {report.place}"
    if count == 1:
        return f"1 launcher job has {where} and was not heard of yet"
    return f"{count} launcher jobs have {where} and were not heard of yet"


def _jobs(count: int) -> str:
    return "1 launcher job is" if count == 1 else f"{count:,} launcher jobs are"


def _others(count: int) -> str:
    return "1 other place" if count == 1 else f"{count} other places"

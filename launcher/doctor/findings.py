"""What a check says, and a run of all checks: none can stop another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from broker.wire.kinds import Message
from launcher.doctor.node import CannotTell, Node


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    """A launcher runs, and does less, or more slowly."""
    FAIL = "fail"
    """No launcher runs, or no vm."""
    SKIP = "skip"
    """Not looked at, for the reason that is told."""


class Finding(Message, frozen=True, kw_only=True):
    """One thing that was found. `mend` is what to do about it, empty where nothing is to be done."""

    level: Level
    found: str
    mend: str = ""


class PointFinding(Message, frozen=True, kw_only=True):
    """A finding, with the name of the point that it is about: the same name in each release."""

    point: str
    level: Level
    found: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One check: its name, what it looks at, and how long that may take."""

    name: str
    look: Callable[[Node], Awaitable[Iterable[Finding]]]
    limit_s: float = 30.0
    is_sites: bool = True
    """Whether it can be looked at by somebody who has no token of a broker."""


def ok(found: str) -> Finding:
    return Finding(level=Level.OK, found=found)


def warn(found: str, mend: str = "") -> Finding:
    return Finding(level=Level.WARN, found=found, mend=mend)


def fail(found: str, mend: str = "") -> Finding:
    return Finding(level=Level.FAIL, found=found, mend=mend)


def skip(reason: str) -> Finding:
    return Finding(level=Level.SKIP, found=reason)


async def look_at(points: Iterable[Point], node: Node) -> AsyncIterator[PointFinding]:
    """Yield what each point finds, in their order; one that crashes or takes too long is a finding as well."""
    for point in points:
        found = list(await _look_at_one(point, node))
        if any(finding.level is Level.FAIL for finding in found):
            node.failed.add(point.name)
        for finding in found:
            yield PointFinding(point=point.name, level=finding.level, found=finding.found, mend=finding.mend)


async def _look_at_one(point: Point, node: Node) -> Iterable[Finding]:
    if node.is_for_site and not point.is_sites:
        return [skip("not asked for with --site")]
    try:
        async with asyncio.timeout(point.limit_s):
            return await point.look(node)
    except CannotTell as error:
        # Nobody must take for good what was not looked at: it is passed over only for what has been told.
        return [skip(str(error)) if error.point in node.failed else fail(str(error), "ask once more")]
    except TimeoutError:
        return [fail(f"took longer than {point.limit_s:g} s", "look what keeps this node busy, or its file system")]
    except Exception as error:  # noqa: BLE001 - a check that crashes must not hide what the others find
        return [fail(f"the check itself failed: {type(error).__name__}: {error}", "tell whoever maintains vmbroker")]

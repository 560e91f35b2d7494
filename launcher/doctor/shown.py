"""What `launcher doctor` prints: a line for each finding, aligned, what to do about it below."""

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from launcher.doctor.findings import Level, PointFinding
from launcher.exchange.printable import printable

WIDTH: Final = 100
_LEVEL_CHARS: Final = 4
_POINT_CHARS: Final = 13
_MAX_CHARS: Final = 1_000
_COLOURS: Final = {Level.OK: "32", Level.WARN: "33", Level.FAIL: "31;1", Level.SKIP: "2"}


def lines(finding: PointFinding, *, has_colour: bool) -> Iterator[str]:
    """Yield the lines of one finding."""
    margin = " " * (_LEVEL_CHARS + _POINT_CHARS + 4)
    level = finding.level.value.ljust(_LEVEL_CHARS)
    told = [*_wrapped(finding.found, margin), *_wrapped(f"→ {finding.mend}" if finding.mend else "", margin)]
    heading = f"{_coloured(level, finding.level) if has_colour else level}  {finding.point.ljust(_POINT_CHARS)}  "
    yield heading + told[0].removeprefix(margin)
    yield from told[1:]


def summary(findings: Iterable[PointFinding]) -> str:
    """Return the last line."""
    levels = [finding.level for finding in findings]
    failed, warned = levels.count(Level.FAIL), levels.count(Level.WARN)
    if failed:
        return f"{failed} of {len(levels)} points fail: a launcher does not run here until they are mended"
    if warned:
        return f"a launcher runs here; {warned} of {len(levels)} points could be better"
    return f"a launcher runs here: {len(levels)} points looked at"


def _wrapped(text: str, margin: str) -> list[str]:
    shown = printable(" ".join(text.split()), _MAX_CHARS)
    return textwrap.wrap(shown, WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


def _coloured(text: str, level: Level) -> str:
    return f"\033[{_COLOURS[level]}m{text}\033[0m"

"""Durations as people write them: `90s`, `15m`, `1h30m`, `30d`."""

import re

UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
HOW_TO_WRITE = "write a duration like 90s, 15m, 1h30m or 2d"
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:ms|s|m|h|d))+")
_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")


class BadDuration(ValueError):
    """A text that is no duration; its text is a sentence for the person who wrote it."""


def parse_ms(text: str) -> int:
    """Read `2h`, `1h30m` or `500ms`; the amounts add up.

    Raises:
        BadDuration: on any other shape.
    """
    if not _DURATION.fullmatch(text):
        raise BadDuration(f"{text[:40]!r} is no duration: {HOW_TO_WRITE}")
    return sum(int(amount) * UNITS_MS[unit] for amount, unit in _PART.findall(text))


def text_of(ms: int) -> str:
    """Return the shortest text of a duration that is not negative; `parse_ms` reads the same again."""
    parts = []
    for unit, size_ms in UNITS_MS.items():
        amount, ms = divmod(ms, size_ms)
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"


def shown(ms: int) -> str:
    """Return a duration that is not negative as a sentence says it: its largest unit, and the next where it counts."""
    seconds = ms // 1_000
    for name, size_s, rest, rest_s in (("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        amount, left_s = divmod(seconds, size_s)
        if amount:
            return f"{amount} {name}" + (f" {left_s // rest_s} {rest}" if left_s >= rest_s else "")
    return f"{seconds} s"

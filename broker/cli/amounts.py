"""Amounts as people write them: durations `90s`, `15m`, `2h`, `1d`."""

import re

from broker.cli.exits import BadUsage

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:ms|s|m|h|d))+")
_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")


def parse_duration_ms(text: str, option: str) -> int:
    """Read `2h`, `1h30m` or `500ms`.

    Raises:
        BadUsage: on any other shape.
    """
    if not _DURATION.fullmatch(text):
        raise BadUsage(f"{option} {text}: write a duration like 90s, 15m, 1h30m or 2d")
    return sum(int(amount) * _UNITS_MS[unit] for amount, unit in _PART.findall(text))

"""Times and spans as people write and read them."""

import re
from datetime import UTC, datetime

_SPAN = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_span(text: str) -> int:
    """Return the seconds of `90`, `90s`, `10m`, `24h` or `7d`.

    Raises:
        ValueError: it is none of these.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no span of time: write 90s, 10m, 24h or 7d")
    return int(found[1]) * _UNITS_S[found[2]]


def shown_span(seconds: float) -> str:
    """Return a span in the largest unit of which it has two at least, as `3 h`."""
    for word, unit_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * unit_s:
            return f"{int(seconds // unit_s)} {word}"
    return f"{int(seconds)} s"


def rfc3339(seconds: float) -> str:
    """Return a time in seconds since 1970 as RFC 3339 has it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

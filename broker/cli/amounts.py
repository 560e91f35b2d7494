"""Amounts as people write them: durations `90s`, `15m`, `2h`, `1d`."""

from broker.cli.exits import BadUsage
from broker.domain.durations import HOW_TO_WRITE, BadDuration, parse_ms


def parse_duration_ms(text: str, option: str) -> int:
    """Read `2h`, `1h30m` or `500ms`.

    Raises:
        BadUsage: on any other shape.
    """
    try:
        return parse_ms(text)
    except BadDuration as error:
        raise BadUsage(f"{option} {text}: {HOW_TO_WRITE}") from error


def parse_life_s(text: str | None) -> int | None:
    """Read a `--life`, in whole seconds; None where it was not given.

    Raises:
        BadUsage: it is no duration.
    """
    return None if text is None else max(1, parse_duration_ms(text, "--life") // 1_000)

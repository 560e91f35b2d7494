"""The figures as a table for a page."""

from collections.abc import Sequence

from bench.figures import Figure

_THOUSAND = 1_000


def markdown(figures: Sequence[Figure]) -> str:
    """Return the table; a figure that belongs to the one above it keeps its place."""
    rows = ["| figure | value | floor | aim |", "|---|---|---|---|"]
    rows += [
        f"| {_name(each)} | {_value(each)} | {each.bound.replace('<=', '≤').replace('>=', '≥')} | {_number(each.aim)} |"
        for each in figures
    ]
    return "\n".join(rows)


def _name(figure: Figure) -> str:
    name = figure.figure.lstrip()
    return name if name == figure.figure else f"… {name}"


def _value(figure: Figure) -> str:
    unit = {"x": " \N{MULTIPLICATION SIGN}", "1/s": " /s"}.get(figure.unit, f" {figure.unit}")
    spread = ""
    if figure.spread is not None and figure.runs > 1:
        spread = f" ({_number(figure.spread[0])} to {_number(figure.spread[1])})"
    return f"{_number(figure.value)}{unit}{spread}"


def _number(value: float | None) -> str:
    """Round to what was really measured: three digits."""
    if value is None:
        return ""
    if abs(value) >= _THOUSAND:
        return f"{value:,.0f}"
    return f"{value:.3g}"

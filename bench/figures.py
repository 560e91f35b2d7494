"""Figures: what was measured, how often, and against what."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

_DIGITS = 3


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table and of the file.

    `runs` is how many measurements `value` is the median of, `spread` the least and the most of them. `reference` says
    what the value is to be held against. `at_most`, `at_least` and `aim` are absent where nothing was promised.
    """

    figure: str
    value: float
    unit: str
    runs: int
    reference: str
    spread: tuple[float, float] | None = None
    at_most: float | None = None
    aim: float | None = None
    at_least: float | None = None

    @property
    def is_kept(self) -> bool:
        is_below = self.at_most is None or self.value <= self.at_most
        return is_below and (self.at_least is None or self.value >= self.at_least)

    @property
    def bound(self) -> str:
        """The value's bound in words of the table; empty where nothing was promised."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.at_most is None else f"<= {self.at_most:g}"


def median_of(
    figure: str,
    unit: str,
    values: Sequence[float],
    *,
    reference: str = "",
    at_most: float | None = None,
    aim: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """Return the median of what was measured."""
    return Figure(
        figure=figure,
        value=round(statistics.median(values), _DIGITS),
        unit=unit,
        runs=len(values),
        reference=reference,
        spread=(round(min(values), _DIGITS), round(max(values), _DIGITS)),
        at_most=at_most,
        aim=aim,
        at_least=at_least,
    )


def ratio_of(
    figure: str,
    values: Sequence[float],
    floor: Sequence[float],
    *,
    reference: str,
    at_most: float | None = None,
    aim: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """Return the ratio of two medians of one run; its spread is that of the pairs that were measured side by side."""
    assert len(values) == len(floor), "values and floor are measured in pairs"
    pairs = [value / below for value, below in zip(values, floor, strict=True)]
    return Figure(
        figure=figure,
        value=round(statistics.median(values) / statistics.median(floor), _DIGITS),
        unit="x",
        runs=len(values),
        reference=reference,
        spread=(round(min(pairs), _DIGITS), round(max(pairs), _DIGITS)),
        at_most=at_most,
        aim=aim,
        at_least=at_least,
    )


def show(title: str, figures: Sequence[Figure], console: Console) -> None:
    """Print the table."""
    table = Table(title=title, title_justify="left")
    for heading in ("figure", "value", "spread", "runs", "bound", "aim", "reference"):
        table.add_column(heading, justify="left" if heading in {"figure", "reference"} else "right", overflow="fold")
    for each in figures:
        spread = f"{each.spread[0]:g} - {each.spread[1]:g}" if each.spread is not None else ""
        table.add_row(
            each.figure,
            f"{each.value:g} {each.unit}" + ("" if each.is_kept else _missed(each)),
            spread,
            str(each.runs),
            each.bound,
            "" if each.aim is None else f"{each.aim:g}",
            each.reference,
        )
    console.print(table)


def _missed(figure: Figure) -> str:
    return "  TOO MUCH" if figure.at_most is not None and figure.value > figure.at_most else "  TOO LITTLE"


def read(path: Path) -> list[Figure]:
    """Read figures that were written."""
    return msgspec.json.decode(path.read_bytes(), type=list[Figure])


def write(figures: Sequence[Figure], path: Path) -> None:
    """Write the figures as a JSON list, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(list(figures))) + b"\n")
    draft.replace(path)

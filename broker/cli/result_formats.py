"""How results are shown: a table, JSON, or CSV for a spreadsheet or a data frame."""

import csv
import io
from enum import StrEnum

from rich.console import Console

from broker.cli import showing
from broker.wire.files import ResultLine
from broker.wire.items import OutputFile

_COLUMNS = (
    "item",
    "state",
    "name",
    "url",
    "params",
    "exit_code",
    "settled_at",
    "reason",
    "output",
    "size_bytes",
    "digest",
    "output_url",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet begins a formula at. Source: OWASP, "CSV Injection"."""


class OutputFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


def print_table(console: Console, stream: str, lines: list[ResultLine]) -> None:
    """Show results, one row an output."""
    if not lines:
        console.print(f"no results of {stream} yet: follow it with `broker watch {stream}`")
        return
    table = showing.table("item", "state", "name", "exit", "output", "size", "sha256", right=("exit", "size"))
    for line in lines:
        name = showing.plain(line.name or (line.url or "").rpartition("/")[2])
        head = (line.item.partition("/")[2], showing.state(line.state), name, _exit_code(line))
        if not line.outputs:
            table.add_row(*head, "", "", "")
        for number, file in enumerate(line.outputs):
            row = head if number == 0 else ("", "", "", "")
            table.add_row(*row, showing.plain(file.name), showing.size(file.size_bytes), showing.short(file.digest))
    console.print(table)
    for line in lines:
        if line.reason:
            console.print(f"{line.item.partition('/')[2]}: {showing.plain(line.reason.sentence)}")


def sentence_of(line: ResultLine) -> str:
    """Return a result as one line, for whoever follows them."""
    item = f"{line.item.partition('/')[2]} {line.state}"
    if line.reason:
        return f"{item}: {showing.plain(line.reason.sentence)}"
    files = ", ".join(f"{showing.plain(file.name)} {showing.size(file.size_bytes)}" for file in line.outputs)
    return f"{item}: {files}" if files else item


def print_json(console: Console, value: object) -> None:
    console.file.write(showing.json_of(value) + "\n")


def csv_heading() -> str:
    return _row(_COLUMNS)


def csv_rows(line: ResultLine) -> str:
    """Return a row for each output of an item, one for an item without any.

    Parameters are JSON. A text that a spreadsheet would take for a formula has an apostrophe before it, and control
    characters are made visible: for the very bytes take JSON.
    """
    head = (
        line.item,
        line.state,
        _text(line.name or ""),
        _text(line.url or ""),
        showing.json_of(line.params) if line.params else "",
        _exit_code(line),
        line.settled_at or "",
        _text(line.reason.sentence if line.reason else ""),
    )
    outputs: list[OutputFile | None] = list(line.outputs) or [None]
    return "".join(_row((*head, *_columns_of(file))) for file in outputs)


def _columns_of(file: OutputFile | None) -> tuple[str, ...]:
    if file is None:
        return ("", "", "", "")
    return (_text(file.name), str(file.size_bytes), _text(file.digest), _text(file.url))


def _row(cells: tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _text(text: str) -> str:
    return showing.plain(f"'{text}" if text.startswith(_FORMULA) else text)


def _exit_code(line: ResultLine) -> str:
    return "" if line.exit_code is None else str(line.exit_code)

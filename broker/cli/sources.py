"""What a push is made of: the files, URLs and JSON items that a person named, and where they named them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import typer

_MAX_LINE_CHARS = 131_072
_SHOWN_CHARS = 80
_SCHEMES = ("http://", "https://", "file:")


class Source(NamedTuple):
    """One item to be: a URL, a local file, a whole item as JSON, or nothing but parameters."""

    place: str = ""
    """Where it was given, for sentences; empty when it is only counted."""
    url: str | None = None
    file: Path | None = None
    json: str | None = None


def named(text: str) -> Source:
    """Read one FILE or URL of the command line."""
    return _source(text, _shown(text))


def listed(file: str) -> Iterator[Source]:
    """Read a list, a FILE, URL or JSON item a line; `-` is stdin."""
    what = "stdin" if file == "-" else file
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{what} cannot be read: {error}") from error
    # Only at line feeds, as editors count lines: a JSON text may hold the other separators that Python knows.
    for number, line in enumerate(text.split("\n"), 1):
        stripped, place = line.strip(), f"line {number} of {what}"
        if len(stripped) > _MAX_LINE_CHARS:
            raise typer.BadParameter(f"{place} has more than {_MAX_LINE_CHARS} characters")
        if stripped:
            yield Source(place, json=stripped) if stripped.startswith("{") else _source(stripped, place)


def _source(text: str, place: str) -> Source:
    if not _is_text(text):
        raise typer.BadParameter(f"{_shown(text)} is no UTF-8 text: rename the file, the name goes with the item")
    if text.startswith(_SCHEMES):
        return Source(place, url=text)
    try:
        is_file = Path(text).is_file()
    except OSError as error:
        raise typer.BadParameter(f"{_said(text, place)} cannot be read: {error.strerror}") from error
    if not is_file:
        raise typer.BadParameter(f"{_said(text, place)} is neither a file here nor a URL (http:, https:, file:)")
    return Source(place, file=Path(text))


def _said(text: str, place: str) -> str:
    shown = _shown(text)
    return shown if place == shown else f"{place}: {shown}"


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]!r}…"


def _is_text(text: str) -> bool:
    """Tell whether a word of the command line can be sent: bytes that are no UTF-8 arrive as lone surrogates."""
    return not any(0xD800 <= ord(char) <= 0xDFFF for char in text)

"""What a push is made of: the files, URLs and JSON items that a person named, and where they named them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import typer

_MAX_LINE_BYTES = 131_072
_SHOWN_CHARS = 80
_SCHEMES = ("http://", "https://", "file:")
_BLOCK_BYTES = 1_048_576


class Source(NamedTuple):
    """One item to be: a URL, a local file, a whole item as JSON, or nothing but parameters."""

    place: str = ""
    """Where it was given, for sentences; empty when it is only counted."""
    url: str | None = None
    file: Path | None = None
    json: bytes | None = None
    line: bytes = b""
    """As it was written, where it is a line of a list."""


class BadSource(typer.BadParameter):
    """A word or line that is none of these; `line` as it was written."""

    def __init__(self, sentence: str, line: bytes = b"") -> None:
        super().__init__(sentence)
        self.line = line


def named(text: str) -> Source:
    """Read one FILE or URL of the command line.

    Raises:
        BadSource: it is neither.
    """
    return _source(text, _shown(text))


def listed(file: str) -> Iterator[Source | BadSource]:
    """Read a list, a FILE, URL or JSON item a line, as it is needed; `-` is stdin. A bad line comes as what is wrong.

    Raises:
        BadSource: the list cannot be read, or a line of it is longer than any item.
    """
    what = _called(file)
    with _opened(file) as lines:
        # Only at line feeds, as editors count lines: a JSON text may hold the other separators that Python knows.
        for number, line in enumerate(iter(lambda: lines.readline(_MAX_LINE_BYTES + 1), b""), 1):
            place = f"line {number} of {what}"
            if len(line) > _MAX_LINE_BYTES:
                raise BadSource(f"{place} has more than {_MAX_LINE_BYTES} bytes")
            if stripped := line.strip():
                yield _of_line(stripped, place)


def count_listed(file: str) -> int | None:
    """Return how many lines of a list hold something; None of one that can be read only once."""
    if file == "-" or not Path(file).is_file():
        return None
    with _opened(file) as lines:
        return sum(1 for line in lines if line.strip())


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    try:
        if file == "-":
            yield sys.stdin.buffer
        else:
            with Path(file).open("rb", buffering=_BLOCK_BYTES) as opened:
                yield opened
    except OSError as error:
        raise BadSource(f"{_called(file)} cannot be read: {error}") from error


def _called(file: str) -> str:
    return "stdin" if file == "-" else file


def _of_line(line: bytes, place: str) -> Source | BadSource:
    if line.startswith(b"{"):
        return Source(place, json=line, line=line)
    try:
        return _source(line.decode(), place)._replace(line=line)
    except UnicodeDecodeError as error:
        return BadSource(f"{place} is no UTF-8 text: {error.reason}", line)
    except BadSource as error:
        return BadSource(str(error), line)


def _source(text: str, place: str) -> Source:
    if text.startswith(_SCHEMES) and text.isascii():
        return Source(place, url=text)
    if not _is_text(text):
        raise BadSource(f"{_shown(text)} is no UTF-8 text: rename the file, the name goes with the item")
    if text.startswith(_SCHEMES):
        return Source(place, url=text)
    try:
        is_file = Path(text).is_file()
    except (OSError, ValueError) as error:
        raise BadSource(f"{_said(text, place)} cannot be read: {getattr(error, 'strerror', error)}") from error
    if not is_file:
        raise BadSource(f"{_said(text, place)} is neither a file here nor a URL (http:, https:, file:)")
    return Source(place, file=Path(text))


def _said(text: str, place: str) -> str:
    shown = _shown(text)
    return shown if place == shown else f"{place}: {shown}"


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]!r}…"


def _is_text(text: str) -> bool:
    """Tell whether a word of the command line can be sent: bytes that are no UTF-8 arrive as lone surrogates."""
    return not any(0xD800 <= ord(char) <= 0xDFFF for char in text)

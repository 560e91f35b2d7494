"""What a push is made of: the files, URLs and JSON items that a person named, and where they named them."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple, cast

import typer

_MAX_LINE_BYTES = 131_072
_SHOWN_CHARS = 80
_SCHEMES = ("http://", "https://", "file:")
_SCHEMES_BYTES = tuple(scheme.encode() for scheme in _SCHEMES)
_PLAIN = bytes(code for code in range(0x21, 0x7F) if code not in b'"\\') + b"\n"
"""What lines hold that need no quoting, and nothing around them has to be taken away."""
_BLOCK_BYTES = 65_536


class Source(NamedTuple):
    """One item to be: a URL, a local file, a whole item as JSON, or nothing but parameters."""

    place: str = ""
    """Where it was given, for sentences; empty when it is only counted."""
    url: str | None = None
    file: Path | None = None
    json: bytes | None = None
    line: bytes = b""
    """As it was written, where it is a line of a list."""


class Urls(NamedTuple):
    """Lines of a list one after another, each a URL that JSON holds as it is written."""

    what: str
    first_line: int
    lines: list[bytes]

    def source(self, index: int) -> Source:
        """Return one of them, from 0 on, as it is given by itself."""
        line = self.lines[index]
        return Source(_place(self.first_line + index, self.what), url=line.decode(), line=line)

    def cut(self, count: int) -> "tuple[Urls, Urls | None]":
        """Return the first ones, and the others when there are any."""
        if count >= len(self.lines):
            return self, None
        rest = Urls(self.what, self.first_line + count, self.lines[count:])
        return self._replace(lines=self.lines[:count]), rest


class BadSource(typer.BadParameter):
    """A word or line that is none of these; `line` as it was written."""

    def __init__(self, sentence: str, line: bytes = b"") -> None:
        super().__init__(sentence)
        self.line = line


Given = Source | BadSource | Urls


def one_by_one(sources: Iterable[Given]) -> Iterator[Source | BadSource]:
    """Yield each of several URLs by itself."""
    for given in sources:
        if isinstance(given, Urls):
            yield from map(given.source, range(len(given.lines)))
        else:
            yield given


def named(text: str) -> Source:
    """Read one FILE or URL of the command line.

    Raises:
        BadSource: it is neither.
    """
    return _source(text, _shown(text))


def listed(file: str) -> Iterator[Given]:
    """Read a list, a FILE, URL or JSON item a line, as it is needed; `-` is stdin. A bad line comes as what is wrong.

    Raises:
        BadSource: the list cannot be read, or a line of it is longer than any item.
    """
    what, number, rest = _called(file), 1, b""
    with _opened(file) as blocks:
        while block := blocks.read1(_BLOCK_BYTES):
            # Only at line feeds, as editors count lines: a JSON text may hold the other separators that Python knows.
            whole, feed, rest = (rest + block).rpartition(b"\n")
            if feed:
                lines = whole.split(b"\n")
                yield from _of_lines(lines, number, what)
                number += len(lines)
            if len(rest) > _MAX_LINE_BYTES:
                raise _too_long(number, what)
    if rest:
        yield from _of_lines([rest], number, what)


def count_listed(file: str) -> int | None:
    """Return how many lines of a list hold something; None of one that can be read only once."""
    if file == "-" or not Path(file).is_file():
        return None
    with _opened(file) as lines:
        return sum(1 for line in lines if line.strip())


@contextmanager
def _opened(file: str) -> Iterator[BufferedReader]:
    try:
        if file == "-":
            yield cast("BufferedReader", sys.stdin.buffer)
        else:
            with Path(file).open("rb", buffering=_BLOCK_BYTES) as opened:
                yield cast("BufferedReader", opened)
    except OSError as error:
        raise BadSource(f"{_called(file)} cannot be read: {error}") from error


def _called(file: str) -> str:
    return "stdin" if file == "-" else file


def _of_lines(lines: list[bytes], first_line: int, what: str) -> Iterator[Given]:
    if _are_plain(lines):
        yield Urls(what, first_line, lines)
        return
    for number, line in enumerate(lines, first_line):
        if len(line) > _MAX_LINE_BYTES:
            raise _too_long(number, what)
        if stripped := line.strip():
            yield _of_line(stripped, _place(number, what))


def _are_plain(lines: list[bytes]) -> bool:
    text = b"\n".join(lines)
    # No line of so little text is too long.
    return (
        len(text) <= _MAX_LINE_BYTES
        and not text.translate(None, _PLAIN)
        and all(line.startswith(_SCHEMES_BYTES) for line in lines)
    )


def _place(number: int, what: str) -> str:
    return f"line {number} of {what}"


def _too_long(number: int, what: str) -> BadSource:
    return BadSource(f"{_place(number, what)} has more than {_MAX_LINE_BYTES} bytes")


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

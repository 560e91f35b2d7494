"""What must not leave with a bundle: whatever in a text could open a door is taken out of it.

Tickets, leases, tokens, private keys, headers and settings that carry a secret have shapes of their own. An address is
cut at its query, where signatures are, and loses the name and password before its host. The values of an item's
parameters are known, in whatever text they stand. What else a program printed cannot be told from other text.
"""

import json
import re
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

_LEFT_OUT = b"(left-out)"
_SHORTEST_VALUE = 6
"""Characters of the shortest value that is looked for: a shorter one is found in too many other words."""
_LONGEST_KEY_BYTES = 16_384


def _cut_by_console(chars: str) -> str:
    """Match a run of these characters that a console may have broken into lines, of which the next is no header."""
    line = rf"\r+\n(?!\[|[\w-]+:[ \t])[{chars}]"
    return rf"(?:{line}{{40,}}(?=\r)){{0,128}}(?:{line}+)?"


def _run(chars: str) -> str:
    return rf"[{chars}]+{_cut_by_console(chars)}"


_SCHEME = r"\b[a-z][a-z0-9+.-]{1,15}:(?:\\?/){2}"
_UNQUOTED = r"^\s\"'<>"
_QUOTED = r"(?P<quote>\\*[\"'])(?P<secret>(?:\\.|[^\\\r\n])*?)(?:(?P=quote)|$)"
_PEM_LINE = r"(?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"
_NAME = r"(?:(?<![a-z])(?:authorization|cookie|password|passwd|passphrase|secret|token|api_?key)|[_-]key)"
_NAME_BEFORE_EQUALS = rf"(?:{_NAME}|(?<![a-z])(?:sig|signature|credential))"
_AUTH_SCHEME = r"(?:(?:basic|bearer|digest|negotiate|ntlm) +)?"
_SHAPES = (
    r"(?P<secret>\bv[tl]1\.[a-z0-9]" + _run("a-z0-9._/-") + ")",
    r"(?P<secret>\beyJ[a-z0-9_-]{6,}\." + _run("a-z0-9._-") + ")",
    r"(?P<secret>\b(?:gh[a-z]_|github_pat_|glpat-|xox[a-z]-)[a-z0-9_-]{16,})",
    rf"(?P<secret>-----BEGIN {_PEM_LINE}.{{0,{_LONGEST_KEY_BYTES}}}?(?:-----END {_PEM_LINE}|\Z))",
    # The tail of a text may begin within a key.
    rf"\A(?P<secret>(?:(?!-----BEGIN).){{0,{_LONGEST_KEY_BYTES}}}?-----END {_PEM_LINE})",
    r"\b(?:bearer|basic) +(?P<secret>[a-z0-9._~+/=-]{8,})",
    rf"{_SCHEME}(?P<secret>[^\s/@\"'<>]*)@",
    rf"{_SCHEME}[^\s?\"'<>]{{0,8192}}\?(?P<secret>{_run(_UNQUOTED)})",
    rf"{_NAME_BEFORE_EQUALS}[ \t]*=[ \t]*(?P<secret>{_run(_UNQUOTED)})",
    rf"{_NAME_BEFORE_EQUALS}\\*[\"']?[ \t]*[:=][ \t]*{_QUOTED}",
    rf"{_NAME}[ \t]*:[ \t]*(?!\\*[\"']){_AUTH_SCHEME}(?P<secret>[^\r\n]+{_cut_by_console(_UNQUOTED)})",
)
_SECRETS = tuple(re.compile(shape.encode(), re.IGNORECASE | re.DOTALL | re.MULTILINE) for shape in _SHAPES)


class Redaction:
    """Takes out of texts what could open a door, and the values of at least six characters that it is given."""

    def __init__(self, values: Collection[str] = ()) -> None:
        looked_for = (value for value in values if len(value) >= _SHORTEST_VALUE)
        self._values = {form.encode() for value in looked_for for form in _forms(value)}

    def of(self, content: bytes) -> bytes:
        """Return the bytes with every secret replaced by `(left-out)`."""
        parts = []
        kept_to = 0
        for start, end in _joined(sorted(self._spans(content))):
            parts += [content[kept_to:start], _LEFT_OUT]
            kept_to = end
        return b"".join([*parts, content[kept_to:]])

    def of_builtins(self, value: Any) -> Any:
        """Return what JSON is made of, with every secret replaced in its strings; the names of its fields stay."""
        match value:
            case str():
                return self.of(value.encode()).decode()
            case dict():
                return {name: self.of_builtins(held) for name, held in value.items()}
            case list():
                return [self.of_builtins(held) for held in value]
        return value

    def _spans(self, content: bytes) -> Iterator[tuple[int, int]]:
        for pattern in _SECRETS:
            yield from (found.span("secret") for found in pattern.finditer(content))
        for value in self._values:
            start = content.find(value)
            while start >= 0:
                yield start, start + len(value)
                start = content.find(value, start + 1)


def without_values(params: dict[str, str]) -> dict[str, str]:
    """Return parameters by their names: a program may take a key as one, and an operator needs none of them."""
    return {name: f"(left-out: {len(value)} characters)" for name, value in params.items()}


def _forms(value: str) -> set[str]:
    """Return a value as it stands in plain text, on a console, in XML, in JSON and in an address."""
    return {
        value,
        value.replace("\n", "\r\n"),
        escape(value),
        escape(value, {'"': "&quot;", "'": "&apos;"}),
        escape(value, {'"': "&quot;"}),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        quote(value),
        quote(value, safe=""),
    }


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return sorted spans with those that overlap or touch made one."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined

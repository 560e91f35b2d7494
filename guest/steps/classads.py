"""ClassAds as file transfer plugins speak them: flat ones are written, and of any the plain values are read.

Both ways to write them are read: `[ Name = value; … ]`, and a line for each attribute. Lists, ads within ads, and
expressions are passed over: curl_plugin tells of each of its tries in one, and nobody here asks.
Source: HTCondor Manual, "ClassAd Syntax"; ClassAd Language Reference 2.4, section 3.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

MAX_AD_BYTES = 1_048_576
"""The most that is read of what a plugin tells; of one file HTCondor's own tell a few KiB."""

Ad = Mapping[str, str | int | bool]
"""Keys that are read are in small letters: the names of attributes are the same in any case."""

_ATTRIBUTE = re.compile(r"[\s;]*(?:([\[\]])|([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*)")
_PIECE = re.compile(r'"(?:[^"\\\n]|\\.)*+"|[\[{(]|[\]})]|[;\n]|[^"\[\]{}();\n]++|"')
_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*+)"')
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_ESCAPED = MappingProxyType({"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"})


class BadAd(ValueError):
    """A text that is no ClassAd."""


def written(ad: Ad) -> str:
    """Write one ad as a line. Its strings hold no control characters."""
    return f"[ {'; '.join(f'{name} = {_written(value)}' for name, value in ad.items())} ]\n"


def read_ads(text: str) -> list[Ad]:
    """Read all ads of a text, without those that have no plain value.

    Raises:
        BadAd: it is something else.
    """
    ads: list[Ad] = []
    ad: dict[str, str | int | bool] = {}
    at = 0
    while found := _ATTRIBUTE.match(text, at):
        at = found.end()
        if found[1]:
            ads += [ad] if ad else []
            ad = {}
            continue
        end = _end_of_value(text, at)
        value = _read(text[at:end].strip())
        if value is not None:
            ad[found[2].lower()] = value
        at = end
    if text[at:].strip(" \t\r\n;"):
        raise BadAd(f"{text[at : at + 40].strip()!r} is no attribute of a ClassAd")
    return [*ads, ad] if ad else ads


def _written(value: str | int | bool) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _end_of_value(text: str, at: int) -> int:
    """Return where the value that begins at `at` ends: at its semicolon, its line's end, or the end of its ad."""
    depth = 0
    while at < len(text):
        piece = _PIECE.match(text, at)
        assert piece is not None
        first = text[at]
        if depth == 0 and first in ";\n]})":
            return at
        depth += (first in "[{(") - (first in "]})")
        at = piece.end()
    return at


def _read(word: str) -> str | int | bool | None:
    if string := _STRING.fullmatch(word):
        return _ESCAPE.sub(_unescaped, string[1])
    if _INTEGER.fullmatch(word):
        return int(word)
    return {"true": True, "false": False}.get(word.lower())


def _unescaped(found: re.Match[str]) -> str:
    said = found[1]
    return chr(int(said, 8) % 256) if said[0] in "01234567" else _ESCAPED.get(said, said)

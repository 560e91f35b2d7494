"""What outsiders might send: texts and bytes made of what means something somewhere, and of anything else."""

import os
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

fuzz = settings(deadline=None, max_examples=int(os.environ.get("VMBROKER_FUZZ_EXAMPLES", "60")), print_blob=True)
"""How each of these tests runs; more examples find more. A failure is printed with the blob that repeats it."""

_FRAGMENTS = (
    *("alice", "Alice", "alice2", "render", "file:", "http://", "https://h", "h.example", "[::1]", ":443", "data:"),
    *("/", "//", "\\", "..", ".", "...", "%2f", "%2F", "%5c", "%2e%2e", "%00", "%", "~", "@", ":", "?", "#", "&", "="),
    *("{name}", "{run}", "{stem}", "{suffix}", "{input.path}", "{user}", "{", "}", "{param.x}", "{input}"),
    *("0", "1", "17", "-1", "007", "1e400", "9" * 30, "\u0663", "\u00b2", "\uff11", "1h", "90s", "5ms", "2d"),
    *("sha256:", "a" * 64, "A" * 64, "vt1.0.", "vl1.0.", "queue.read:/", "queue.admin", "file.write:/alice", " "),
    *("\0", "\n", "\r\n", "\t", "\x1b[2J", "\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\ud800", "\udcff", "\u0430"),
    *("a" * 63, "a" * 64, "b" * 300, "é", "\u00e9", "e\u0301", "💩", "\u017f", "\u212a"),
)
texts = st.one_of(
    st.lists(st.sampled_from(_FRAGMENTS), max_size=8).map("".join),
    st.text(st.characters(exclude_categories=()), max_size=40),
)
"""Any text, with halves of pairs, too."""
wire_texts = texts.map(lambda text: text.encode("utf-8", "replace").decode())
"""Texts as JSON can carry them."""
blobs = st.one_of(st.binary(max_size=200), texts.map(lambda text: text.encode("utf-8", "surrogatepass")))
_numbers = st.one_of(
    st.integers(-(1 << 70), 1 << 70), st.floats(), st.sampled_from([10**30, -1, 0, 1 << 63, 1 << 53, 0.5])
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), _numbers, wire_texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(wire_texts, inner, max_size=4)),
    max_leaves=8,
)
json_bodies = st.sampled_from(
    [
        b"[" * 30_000,
        b'{"a":' * 20_000,
        b'{"x": ' + b"9" * 6_000 + b"}",
        b'{"x": 1e400, "x": -1e400}',
        b'{"x": "\xff"}',
        b'{"x": "\\ud800"}',
        b'{"x": NaN}',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\0}\0",
        b"{}\0",
        b'"' + b"\\" * 1_001,
        b"",
    ]
)
"""Such as have broken parsers of JSON."""


def is_plain(char: str) -> bool:
    """Tell whether a character is an ASCII letter or digit: said apart from `re`."""
    return "a" <= char <= "z" or "A" <= char <= "Z" or "0" <= char <= "9"

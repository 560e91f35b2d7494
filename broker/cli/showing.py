"""What is written on a terminal: plain where it is piped, a little colour where a person looks."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from broker.wire.states import ItemState

STATE_STYLES = {
    ItemState.DELAYED: "yellow",
    ItemState.READY: "default",
    ItemState.DISPATCHED: "cyan",
    ItemState.RUNNING: "blue",
    ItemState.DONE: "green",
    ItemState.HELD: "red",
    ItemState.CANCELLED: "dim",
}
_DIGEST_CHARS = 12
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_VISIBLE_CONTROLS = frozenset("\n\t")
_LINE_ENDS = frozenset("\u2028\u2029")
"""Line ends to some terminals, and to Python."""
_NOT_PLAIN = re.compile(r"[^\n\t -~]")


class _Shown(Console):
    """A console on which no text acts, whoever wrote it and forgot to say `plain`."""

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        return super()._render_buffer(
            segment if segment.control else segment._replace(text=visible(segment.text)) for segment in buffer
        )


def stdout() -> Console:
    """Return the console of stdout; a pipe gets whole lines, however long.

    Text is shown as it is: `[/x]` and `:fire:` are what somebody wrote, not an order to Rich.
    """
    console = _Shown(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console = _Shown(markup=False, emoji=False, highlight=False, width=10_000, soft_wrap=True)
    return console


def stderr() -> Console:
    return _Shown(stderr=True, markup=False, emoji=False, highlight=False)


def json_of(value: object, *, indent: int | None = None) -> str:
    """Return a value as JSON, on one line unless indented; what could act on a terminal is escaped."""
    encoded = msgspec.json.encode(value)
    if indent is not None:
        encoded = msgspec.json.format(encoded, indent=indent)
    return _escaped(encoded.decode(), _in_json)


def xml_of(text: str) -> str:
    """Return XML to show; what could act on a terminal is written as a reference to the character."""
    return _escaped(text, lambda char: f"&#x{ord(char):x};")


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    if _NOT_PLAIN.search(text) is None:
        return text
    return "".join(char if is_visible(char) else escape(char) for char in text)


def _in_json(char: str) -> str:
    return json.dumps(char)[1:-1]


def table(*headings: str, right: tuple[str, ...] = ()) -> Table:
    """Return a table without frames."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return made


def pairs() -> Table:
    """Return a table of names and what they are."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    return made


def state(value: ItemState | str) -> Text:
    """Return a state in its colour."""
    return Text(str(value), style=STATE_STYLES.get(ItemState(value), "default"))


def size(size_bytes: int) -> str:
    """Return a size as people read it."""
    amount = float(size_bytes)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("the last unit takes everything")


def short(digest: str) -> str:
    """Return as much of a digest as people compare."""
    return digest.removeprefix("sha256:")[:_DIGEST_CHARS]


def duration(ms: int) -> str:
    """Return a duration as people read it."""
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    return f"{minutes // 60}h{minutes % 60:02}m"


def since(at: str) -> int:
    """Return the milliseconds since a time of the wire."""
    return max(0, int((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds() * 1000))


def between(first: str, last: str) -> str:
    """Return the time between two times of the wire."""
    gap = datetime.fromisoformat(last) - datetime.fromisoformat(first)
    return duration(int(gap.total_seconds() * 1000))


def plain(text: str) -> str:
    """Return a text that a stranger chose, on one line, with whatever could act on a terminal made visible."""
    return visible(text).replace("\n", "⏎").replace("\t", " ")


def visible(text: str) -> str:
    """Return a text with control and formatting characters made visible; line ends and tabs stay.

    Raw console bytes could move the cursor, rewrite what was shown, or answer in the reader's name.
    """
    if _NOT_PLAIN.search(text) is None:
        return text
    return "".join(_shown(char) for char in text.replace("\r\n", "\n"))


def is_visible(char: str) -> bool:
    """Tell whether a character is shown as it is."""
    return char in _VISIBLE_CONTROLS or not (unicodedata.category(char).startswith("C") or char in _LINE_ENDS)


def _shown(char: str) -> str:
    if is_visible(char):
        return char
    code = ord(char)
    if code < 0x20:
        return f"^{chr(code + 0x40)}"
    return "^?" if code == 0x7F else f"\\u{code:04x}"

"""The store's scripts: read from `lua/`, put together with the pieces they use, given names for what they are passed.

A script's header is its contract, and what is generated from it cannot drift from it: `KEYS` and `ARGV` become the
script's local variables, in that order; `USES` names the pieces of `lua/lib/` that are put before it; `RETURN` is the
closed list of its words. A test compares `MOVES` and `EMITS` with the domain's tables and `ARGV` with `arguments.py`.

A script with `EACH` may be run for several acts on one stream at once: what `USES` names is there once, and what is
read or counted in it is shared; what `EACH` names is there anew for each act. It is passed what they have in common,
the user and the job, then of each act how many arguments it has, and those; it answers each act's answer.

What is put together is written at the end, in one go: pieces add to `at_end` what is then called, whatever went wrong.
"""

import hashlib
import re
from enum import StrEnum
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from broker.domain.canary import CANARIES, FAULTY_NODES
from broker.domain.limits import default
from broker.store.keys import (
    DEAD_KEEP_MS,
    DELIVERED_KEEP_MS,
    DISPATCH_KEY_MS,
    DROPPED,
    GONE_STEPS,
    IDEMPOTENCY_MS,
    KEEP_STEP_MS,
    LAUNCHER_KEEP_MS,
    LOOKED_AT,
    MASKS,
    STALE_ENTRIES,
)
from broker.wire.streams import KEEP_MS

_FIELD = re.compile(r"-- ([A-Z]+) +(.*)")
_CONTINUED = re.compile(r"-- {2,}(.*)")
_CONSTANTS = {
    "EVENT_LOG": default("event_log"),
    "EVENT_FEED": default("event_feed"),
    "CANARIES": CANARIES,
    "FAULTY_NODES": FAULTY_NODES,
    "KEEP_MS": KEEP_MS,
    "LOOKED_AT": LOOKED_AT,
    "LAUNCHERS": default("launchers"),
    "SUBMITTERS": default("submitters"),
    "ALL_SUBMITTERS": default("all_submitters"),
    "IDEMPOTENCY_MS": IDEMPOTENCY_MS,
    "DISPATCH_KEY_MS": DISPATCH_KEY_MS,
    "KEEP_STEP_MS": KEEP_STEP_MS,
    "GONE_STEPS": GONE_STEPS,
    "LAUNCHER_KEEP_MS": LAUNCHER_KEEP_MS,
    "STALE_ENTRIES": STALE_ENTRIES,
    "MASKS": MASKS,
    "CALLBACKS_OUT": default("callbacks_out"),
    "DELIVERED": default("callbacks_delivered"),
    "DELIVERED_KEEP_MS": DELIVERED_KEEP_MS,
    "DEAD": default("callbacks_dead"),
    "DEAD_KEEP_MS": DEAD_KEEP_MS,
    "DROPPED": DROPPED,
}
REST = "text..."
"""The type of a last argument that stands for all that follow: its variable is the first one's index."""
COMMON = ("user", "job")
"""The first arguments of a script that may be run for several acts: they have them in common."""
_END = """
local function error_of(why)
  return type(why) == 'table' and why or redis.error_reply(why)
end
local function finish_all()
  local failed
  for _, finish in ipairs(at_end) do
    local ok, why = pcall(finish)
    if not ok then failed = failed or why end
  end
  return failed
end
"""
# The items have moved by then: what fails to be written keeps nothing else from being written.
_ONE = f"""{_END}
local ok, answer = pcall(do_act, ARGV)
local failed = finish_all()
if not ok or failed then return error_of(ok and failed or answer) end
return answer
"""
# An act that fails leaves those beside it alone: its own caller is answered the error.
_EACH = f"""{_END}
local answers, at = {{}}, {len(COMMON)} + 1
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  local ok, answer = pcall(do_act, {{unpack(ARGV, at + 1, at + count)}})
  answers[#answers + 1] = ok and answer or error_of(answer)
  at = at + 1 + count
end
local failed = finish_all()
return failed and error_of(failed) or answers
"""


class Word(StrEnum):
    """Every word that a script may answer."""

    DONE = "done"
    REPEATED = "repeated"
    CHANGED = "changed"
    """What was decided no longer applies: read again, decide again."""
    LOST = "lost"
    """The item is no longer this lease's."""
    DIFFERS = "differs"
    MISSING = "missing"
    REUSED = "reused"
    EMPTY = "empty"
    FULL = "full"
    BUSY = "busy"
    GIVEN = "given"
    """A vm has the item."""
    PURGING = "purging"
    """The stream is being removed."""
    WAITS = "waits"
    """A bulk act is about to reach what would be next."""
    AGAIN = "again"
    CANARY = "canary"
    """The stream's first vms are out; more follow when one of them has claimed."""
    SPENT = "spent"
    REPLAYED = "replayed"
    OWN = "own"
    NAMED = "named"
    """A machine names the image."""
    CLOSING = "closing"
    """The dispatch is over because its own guest said its last word a moment ago."""
    OVER = "over"
    CANCELLED = "cancelled"
    """The dispatch is over because its item was cancelled."""
    DRAINING = "draining"
    """The item is still its own, and its launcher will soon destroy the vm."""
    SETTLED = "settled"


class Argument(NamedTuple):
    name: str
    type: str


class Script(NamedTuple):
    """A script ready to load. `header` holds its fields as written; see the module's text."""

    name: str
    header: dict[str, list[str]]
    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]
    words: frozenset[Word]
    source: str
    sha1: str
    is_for_several: bool
    """It may be run for several acts at once."""


@cache
def load(name: str) -> Script:
    """Read a script and put it together. Same files, same digest."""
    text = _read(f"{name}.lua")
    shebang, _, body = text.partition("\n")
    header = parse_header(body)
    keys = tuple(" ".join(header["KEYS"]).split())
    arguments = tuple(Argument(*line.split()[:2]) for line in header["ARGV"])
    is_for_several = "EACH" in header
    source = _put_together(shebang, header, keys, arguments, body)
    return Script(
        name=name,
        header=header,
        keys=keys,
        arguments=arguments,
        words=frozenset(Word(word) for word in " ".join(header["RETURN"]).split()),
        source=source,
        sha1=hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(),
        is_for_several=is_for_several,
    )


def names() -> list[str]:
    """Return the names of all scripts."""
    return sorted(entry.name.removesuffix(".lua") for entry in _folder().iterdir() if entry.name.endswith(".lua"))


def parse_header(body: str) -> dict[str, list[str]]:
    """Return the fields of the comment that a script opens with, each as its lines."""
    header: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in body.splitlines():
        if named := _FIELD.fullmatch(line):
            lines = header.setdefault(named[1], [])
            lines.append(named[2])
        elif more := _CONTINUED.fullmatch(line):
            lines.append(more[1])
        elif line.startswith("--"):
            lines = []
        else:
            break
    return header


def _put_together(
    shebang: str, header: dict[str, list[str]], keys: tuple[str, ...], arguments: tuple[Argument, ...], body: str
) -> str:
    is_for_several = "EACH" in header
    common, own = arguments[: len(COMMON)], arguments[len(COMMON) :]
    assert not is_for_several or tuple(each.name for each in common) == COMMON
    return "\n".join(
        [
            shebang,
            _constants(),
            *(f"local {key} = KEYS[{index}]" for index, key in enumerate(keys, 1)),
            *_locals(common if is_for_several else arguments),
            "local at_end = {}",
            *_pieces(header.get("USES", [])),
            "local function do_act(ARGV)",
            *(_locals(own) if is_for_several else []),
            *_pieces(header.get("EACH", [])),
            body,
            "end",
            _EACH if is_for_several else _ONE,
        ]
    )


def _pieces(named: list[str]) -> list[str]:
    return [_read(f"lib/{piece}.lua") for piece in " ".join(named).split()]


def _constants() -> str:
    return "\n".join(f"local {name} = {value}" for name, value in _CONSTANTS.items())


def _locals(arguments: tuple[Argument, ...]) -> list[str]:
    lines = []
    for index, argument in enumerate(arguments, 1):
        if argument.type == REST:
            value = str(index)
        elif argument.type in {"int", "ms", "flag"}:
            value = f"tonumber(ARGV[{index}])"
        else:
            value = f"ARGV[{index}]"
        lines.append(f"local {argument.name} = {value}")
    return lines


def _read(path: str) -> str:
    return _folder().joinpath(path).read_text(encoding="utf-8")


def _folder() -> Traversable:
    return files("broker.store").joinpath("lua")

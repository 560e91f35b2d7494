"""Histories: what each process sent and was answered, written before and after, one file for each process's life.

A line is in the file before the call it tells of goes out, and survives the SIGKILL of its writer: it is in the
system's hands by then. Times are those of one machine: `CLOCK_MONOTONIC`, which orders what several processes did, and
the wall clock, which is also the store's.
"""

import itertools
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from broker.client.session import ApiError, CallError

T = TypeVar("T")

REFUSED: Final = "refused"
UNANSWERED: Final = "unanswered"
DONE: Final = "done"

Facts = dict[str, str | int]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line: a call that goes out (`outcome` is ''), or what became of call number `call`."""

    who: str
    call: int
    act: str
    at_ns: int
    wall_ms: int
    facts: Facts
    outcome: str = ""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call of one process: `sent` are its facts, `got` those of the answer; `code` is a refusal's.

    A call without an answer may have been done or not: `outcome` is then `unanswered`, and `answered_ns` is None when
    its sender did not live to see that.
    """

    who: str
    act: str
    sent_ns: int
    sent_wall_ms: int
    sent: Facts
    outcome: str = UNANSWERED
    answered_ns: int | None = None
    got: Facts = {}

    @property
    def is_accepted(self) -> bool:
        return self.outcome == DONE


class History:
    """The file of one life of one process."""

    def __init__(self, folder: Path, who: str) -> None:
        self.who = who
        self._numbers = itertools.count(1)
        self._fd = os.open(folder / f"{who}.ndjson", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def note(self, act: str, **facts: str | int) -> None:
        """Tell of something that is no call."""
        self._write(next(self._numbers), act, facts, DONE)

    async def call(
        self, act: str, sent: Facts, make: Callable[[], Awaitable[T]], told: Callable[[T], Facts] = lambda _: {}
    ) -> T:
        """Make a call, told before it goes out and after it came back; `told` picks what of an answer is kept.

        Raises:
            CallError: as the call did.
        """
        number = next(self._numbers)
        self._write(number, act, sent, "")
        try:
            answer = await make()
        except ApiError as error:
            is_refusal = error.is_brokers and error.status < 500
            self._write(number, act, {"code": error.code.value}, REFUSED if is_refusal else UNANSWERED)
            raise
        except CallError as error:
            self._write(number, act, {"code": type(error).__name__}, UNANSWERED)
            raise
        self._write(number, act, told(answer), DONE)
        return answer

    def _write(self, number: int, act: str, facts: Facts, outcome: str) -> None:
        at_ns, wall_ms = time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.time_ns() // 1_000_000
        line = Line(who=self.who, call=number, act=act, at_ns=at_ns, wall_ms=wall_ms, facts=facts, outcome=outcome)
        os.write(self._fd, msgspec.json.encode(line) + b"\n")


def read_histories(folder: Path) -> list[Call]:
    """Return every call of every process, in the order in which they were sent."""
    calls = [call for path in sorted(folder.glob("*.ndjson")) for call in calls_of(_lines(path))]
    return sorted(calls, key=lambda call: call.sent_ns)


def calls_of(lines: Iterable[Line]) -> list[Call]:
    """Put the calls of one process together from its lines."""
    calls: dict[int, Call] = {}
    for line in lines:
        sent = calls.get(line.call)
        if sent is None:
            calls[line.call] = Call(
                who=line.who, act=line.act, sent_ns=line.at_ns, sent_wall_ms=line.wall_ms, sent=line.facts
            )
            sent = calls[line.call]
        if line.outcome:
            got = line.facts if sent.sent is not line.facts else {}
            calls[line.call] = msgspec.structs.replace(sent, outcome=line.outcome, answered_ns=line.at_ns, got=got)
    return list(calls.values())


def _lines(path: Path) -> list[Line]:
    """Read a file whose writer may have been killed in its last line."""
    *whole, rest = path.read_bytes().split(b"\n")
    del rest
    return [msgspec.json.decode(line, type=Line) for line in whole]

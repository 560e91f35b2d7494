"""The load: many connections of this process, each a conversation, over one epoll.

A conversation is a generator: it yields what it sends, or a pause, and gets the answer back. One request is out on a
connection at a time. The same conversations are held with the broker and with what it is measured against, so that the
load costs the same, and little: a client of a few system calls a request and no event loop between.
"""

import heapq
import re
import select
import socket
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from bench.failing import BenchFailed

_READ_BYTES = 1 << 18
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_LONGEST_POLL_S = 0.5


class Answer(NamedTuple):
    """What came back, and when its last byte was read, by `time.perf_counter`."""

    status: int
    body: bytes
    at_s: float = 0.0


class Pause(NamedTuple):
    """Wait before going on; the answer is empty."""

    seconds: float


Talk = Generator[bytes | Pause, Answer, None]
Framing = Callable[[bytes], Answer | None]
Address = tuple[str, int]
_NOWHERE: Address = ("", 0)


@dataclass(slots=True, eq=False)
class _Line:
    """A conversation and its connection, which is opened when something is sent first."""

    address: Address
    talk: Talk
    connection: socket.socket | None = None
    received: bytes = b""


def read_http(received: bytes) -> Answer | None:
    """Read one whole HTTP/1.1 answer; None while it is not whole."""
    head, end, body = received.partition(_HEAD_END)
    if not end:
        return None
    length = _LENGTH.search(head)
    expected = int(length[1]) if length is not None else 0
    return Answer(int(head[9:12]), body) if len(body) >= expected else None


def drive(address: Address, talks: Iterable[Talk], *, limit_s: float, framing: Framing = read_http) -> float:
    """Hold the conversations to their ends; return how many seconds it took.

    Raises:
        BenchFailed: they did not end within the limit, or the other side closed a connection.
    """
    return drive_all([(address, talk) for talk in talks], limit_s=limit_s, framing=framing)


def drive_all(
    talks: Iterable[tuple[Address, Talk]],
    *,
    limit_s: float,
    main: Talk | None = None,
    framing: Framing = read_http,
) -> float:
    """Hold conversations with several servers to their ends, or to that of the `main` one, which sends nothing.

    Raises:
        BenchFailed: as for `drive`.
    """
    loop = _Loop(framing, limit_s)
    begun_s = time.perf_counter()
    try:
        loop.run([_Line(*each) for each in talks], _Line(_NOWHERE, main) if main is not None else None)
        return time.perf_counter() - begun_s
    finally:
        loop.close()


class _Loop:
    def __init__(self, framing: Framing, limit_s: float) -> None:
        self._framing = framing
        self._limit_s = limit_s
        self._epoll = select.epoll()
        self._open: dict[int, _Line] = {}
        self._pauses: list[tuple[float, int, _Line]] = []
        self._talking: set[_Line] = set()

    def run(self, lines: list[_Line], main: _Line | None) -> None:
        ends_s = time.perf_counter() + self._limit_s
        every = [*lines, main] if main is not None else lines
        self._talking = set(every)
        for line in every:
            self._advance(line, None)
        while self._talking and (main is None or main in self._talking):
            for descriptor, _ in self._epoll.poll(self._until_pause_s()):
                self._receive(self._open[descriptor])
            self._resume()
            if time.perf_counter() > ends_s:
                raise BenchFailed(f"{len(self._talking)} conversations did not end within {self._limit_s:g} s")

    def close(self) -> None:
        for line in self._open.values():
            if line.connection is not None:
                line.connection.close()
            line.talk.close()
        self._epoll.close()

    def _until_pause_s(self) -> float:
        if not self._pauses:
            return _LONGEST_POLL_S
        return min(_LONGEST_POLL_S, max(0.0, self._pauses[0][0] - time.perf_counter()))

    def _resume(self) -> None:
        now_s = time.perf_counter()
        while self._pauses and self._pauses[0][0] <= now_s:
            self._advance(heapq.heappop(self._pauses)[2], Answer(0, b"", now_s))

    def _receive(self, line: _Line) -> None:
        assert line.connection is not None, "only open connections are polled"
        chunk = line.connection.recv(_READ_BYTES)
        if not chunk:
            raise BenchFailed(f"the server closed a connection after {line.received[:200]!r}")
        line.received += chunk
        answer = self._framing(line.received)
        if answer is not None:
            line.received = b""
            self._advance(line, answer._replace(at_s=time.perf_counter()))

    def _advance(self, line: _Line, answer: Answer | None) -> None:
        try:
            wanted = next(line.talk) if answer is None else line.talk.send(answer)
        except StopIteration:
            self._talking.discard(line)
            return
        if isinstance(wanted, Pause):
            heapq.heappush(self._pauses, (time.perf_counter() + wanted.seconds, id(line), line))
        else:
            self._connected(line).sendall(wanted)

    def _connected(self, line: _Line) -> socket.socket:
        if line.connection is None:
            line.connection = socket.create_connection(line.address, timeout=self._limit_s)
            line.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._epoll.register(line.connection, select.EPOLLIN)
            self._open[line.connection.fileno()] = line
        return line.connection

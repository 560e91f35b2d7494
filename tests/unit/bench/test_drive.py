import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.broker.drive import Address, Answer, Pause, Talk, drive, drive_all, read_http
from bench.broker.peers.beanstalk import read_answer
from bench.failing import BenchFailed

_LIMIT_S = 10
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize("size", range(len(_OK)))
def test_a_part_of_an_answer_is_none(size: int) -> None:
    assert read_http(_OK[:size]) is None


def test_an_answer_is_read_by_its_length_and_one_without_a_body_ends_with_its_head() -> None:
    assert read_http(_OK) == Answer(200, b"hello")
    assert read_http(b"HTTP/1.1 204 No Content\r\nDate: today\r\n\r\n") == Answer(204, b"")


def test_a_reserved_job_is_read_with_its_body_and_other_answers_by_their_line() -> None:
    assert read_answer(b"RESERVED 7 5\r\nhel") is None
    assert read_answer(b"RESERVED 7 5\r\nhello\r\n") == Answer(0, b"RESERVED 7 5\r\nhello\r\n")
    assert read_answer(b"DELE") is None
    assert read_answer(b"DELETED\r\n") == Answer(0, b"DELETED\r\n")


def test_conversations_run_side_by_side_each_on_a_connection_of_its_own() -> None:
    heard: list[bytes] = []

    def talk(name: bytes) -> Talk:
        for _ in range(3):
            heard.append((yield b"%s\n" % name).body)
            yield Pause(0.001)

    with _echo() as address:
        drive(address, [talk(b"a"), talk(b"b")], limit_s=_LIMIT_S, framing=_line)

    assert sorted(heard) == [b"a\n"] * 3 + [b"b\n"] * 3


def test_the_main_conversation_ends_those_that_go_on_for_ever() -> None:
    def endless() -> Talk:
        while True:
            yield b"again\n"

    def short() -> Talk:
        yield Pause(0.01)

    with _echo() as address, _echo() as other:
        talks = [(address, endless()), (other, endless())]
        assert drive_all(talks, main=short(), limit_s=_LIMIT_S, framing=_line) < _LIMIT_S


def test_what_takes_too_long_fails() -> None:
    def waiting() -> Talk:
        yield Pause(60)

    with _echo() as address, pytest.raises(BenchFailed, match="1 conversations did not end"):
        drive(address, [waiting()], limit_s=0.01)


def _line(received: bytes) -> Answer | None:
    return Answer(0, received) if received.endswith(b"\n") else None


@contextmanager
def _echo() -> Iterator[Address]:
    """A server that sends back whatever it gets, until the block ends."""
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()
    connections: set[asyncio.Task[None]] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1_000):
            writer.write(chunk)
        writer.close()
        await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(loop.create_task(echo(reader, writer)))

    async def serve() -> None:
        async with await asyncio.start_server(connected, sock=listener):
            await stopping.wait()
        await asyncio.gather(*connections, return_exceptions=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        try:
            yield ("127.0.0.1", listener.getsockname()[1])
        finally:
            loop.call_soon_threadsafe(stopping.set)
            thread.join(_LIMIT_S)
            loop.close()

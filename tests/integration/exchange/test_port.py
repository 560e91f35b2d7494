import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.wire.port import MAX_LINE_BYTES, Stop, Welcome
from launcher.exchange.port import GuestPort

LIMIT_S = 20


class Guest:
    """The other end of the socket, where QEMU is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._streams: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.put_nowait((reader, writer))

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(LIMIT_S):
            return await self._streams.get()


@pytest.fixture
async def guest(tmp_path: Path) -> AsyncIterator[Guest]:
    folder = tmp_path / ("x" * 100)  # longer than a Unix socket's path can be
    folder.mkdir()
    guest = Guest(folder / "port")
    descriptor = os.open(folder, os.O_PATH)
    server = await asyncio.start_unix_server(guest.accept, f"/proc/self/fd/{descriptor}/port", limit=4 * MAX_LINE_BYTES)
    os.close(descriptor)
    async with server:
        yield guest


def make_welcome() -> Welcome:
    return Welcome(ticket="vt1.x", broker="https://b", now="2026-01-01T00:00:00Z", entropy=os.urandom(32), ca="PEM")


async def test_each_hello_is_welcomed_with_fresh_entropy(guest: Guest) -> None:
    async with GuestPort(guest.path) as port:
        serving = asyncio.create_task(port.serve(make_welcome))
        reader, writer = await guest.streams()
        answers = []
        for _ in range(2):
            writer.write(b'{"type":"hello","client":"0.1.0"}\n')
            async with asyncio.timeout(LIMIT_S):
                answers.append(json.loads(await reader.readline()))
        assert port.greeted.is_set()
        assert {key: value for key, value in answers[0].items() if key != "entropy"} == {
            "type": "welcome",
            "ticket": "vt1.x",
            "broker": "https://b",
            "proxy": None,
            "now": "2026-01-01T00:00:00Z",
            "ca": "PEM",
            "share": None,
        }
        assert len(base64.b64decode(answers[0]["entropy"])) == 32
        assert answers[0]["entropy"] != answers[1]["entropy"]
        writer.transport.abort()
        async with asyncio.timeout(LIMIT_S):
            await serving


async def test_a_guest_is_asked_to_stop_and_asked_again_after_each_hello(guest: Guest) -> None:
    async with GuestPort(guest.path) as port:
        assert not await port.ask_to_stop(Stop(in_ms=90_000, reason="too early")), "nobody has said a word yet"
        serving = asyncio.create_task(port.serve(make_welcome))
        reader, writer = await guest.streams()

        async def next_of() -> dict[str, object]:
            async with asyncio.timeout(LIMIT_S):
                told: dict[str, object] = json.loads(await reader.readline())
                return told

        writer.write(b'{"type":"hello","client":"1"}\n')
        assert [(await next_of())["type"] for _ in range(2)] == ["welcome", "stop"]
        assert await port.ask_to_stop(Stop(in_ms=60_000, reason="the slot ends"))
        assert await next_of() == {"type": "stop", "in_ms": 60_000, "reason": "the slot ends"}
        writer.write(b'{"type":"hello","client":"1"}\n')
        assert (await next_of())["type"] == "welcome"
        again = await next_of()
        assert again["reason"] == "the slot ends"
        assert isinstance(again["in_ms"], int)
        assert 0 < again["in_ms"] <= 60_000
        writer.transport.abort()
        async with asyncio.timeout(LIMIT_S):
            await serving


async def test_noise_is_passed_over_and_logs_are_handed_on(guest: Guest) -> None:
    logged: list[str] = []
    async with GuestPort(guest.path, on_log=logged.append) as port:
        serving = asyncio.create_task(port.serve(make_welcome))
        reader, writer = await guest.streams()
        writer.write(b'\xff\n{}\n[1]\nnull\n{"type":"dance"}\n{"type":"hello"}\n')
        writer.write(b"[" * (3 * MAX_LINE_BYTES) + b"\n")
        writer.write(b'{"type":"log","text":"booted","more":1}\n{"type":"hello","client":"2"}\n')
        async with asyncio.timeout(LIMIT_S):
            assert json.loads(await reader.readline())["ticket"] == "vt1.x"
        assert logged == ["booted"]
        writer.write(b'{"type":"log","text":"no new')
        writer.close()
        async with asyncio.timeout(LIMIT_S):
            await serving


async def test_a_guest_logs_up_to_a_megabyte(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.exchange.port.LOG_LIMIT_BYTES", 100)
    logged: list[str] = []
    async with GuestPort(guest.path, on_log=logged.append) as port:
        _, writer = await guest.streams()
        writer.write(b'{"type":"log","text":"%s"}\n' % (b"x" * 20) * 10)
        writer.close()
        async with asyncio.timeout(LIMIT_S):
            await port.serve(make_welcome)
    assert logged == ["x" * 20] * 2


async def test_a_port_that_nobody_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with GuestPort(tmp_path / "port"):
            raise AssertionError("connected to nothing")

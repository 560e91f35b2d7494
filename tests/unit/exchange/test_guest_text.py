"""What a guest that means harm sends through its port, over a real socket."""

import asyncio
import json
from pathlib import Path

from broker.wire.port import Welcome
from launcher.exchange.port import LOG_LINE_CHARACTERS, GuestPort

LIMIT_S = 20


def make_welcome() -> Welcome:
    return Welcome(ticket="vt1.x", broker="https://b", now="2026-01-01T00:00:00Z", entropy=b"e" * 32)


async def logged_of(folder: Path, *lines: bytes) -> list[str]:
    """Send the lines and a hello, and return what was logged until the answer came."""
    streams: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        streams.put_nowait((reader, writer))

    logged: list[str] = []
    server = await asyncio.start_unix_server(accept, folder / "port")
    async with asyncio.timeout(LIMIT_S), server, GuestPort(folder / "port", on_log=logged.append) as port:
        serving = asyncio.create_task(port.serve(make_welcome))
        reader, writer = await streams.get()
        writer.writelines([*(line + b"\n" for line in lines), b'{"type":"hello","client":"1"}\n'])
        answered = asyncio.create_task(reader.readline())
        await asyncio.wait([serving, answered], return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            answered.cancel()
            await serving
        assert json.loads(await answered)["ticket"] == "vt1.x"
        writer.transport.abort()
        await serving
    return logged


def log_line(text: str) -> bytes:
    return json.dumps({"type": "log", "text": text}).encode()


async def test_json_that_is_nested_too_deep_is_passed_over(tmp_path: Path) -> None:
    deep = b'{"type":"log","text":"deep","more":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    assert await logged_of(tmp_path, deep, log_line("after")) == ["after"]


async def test_what_a_guest_logs_is_one_printable_line(tmp_path: Path) -> None:
    text = "naïve ✓\x1b[2J\r\n2026-01-01 [error] forged\u2028\u202e\x00\x9b"
    assert await logged_of(tmp_path, log_line(text)) == [
        r"naïve ✓\x1b[2J\r\n2026-01-01 [error] forged\u2028\u202e\x00\x9b"
    ]


async def test_a_long_line_of_a_guest_is_cut(tmp_path: Path) -> None:
    whole, long, escaped = await logged_of(
        tmp_path, log_line("x" * LOG_LINE_CHARACTERS), log_line("x" * 60_000), log_line("\x1b" * LOG_LINE_CHARACTERS)
    )
    assert whole == "x" * LOG_LINE_CHARACTERS
    assert long == "x" * (LOG_LINE_CHARACTERS - 1) + "…"
    assert len(escaped) == LOG_LINE_CHARACTERS

"""The launcher's end of a vm's virtio port: it greets the guest with what it needs, as often as the guest asks.

QEMU listens on a Unix socket in the vm's run folder; nothing of this leaves the node, and nothing is on a command line.
A guest is not trusted: lines have a limit, what cannot be understood is passed over, and reading is paced, so that a
guest that floods its port slows down itself. What it logs ends in the launcher's own log, so that is made printable
and cut.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from broker.wire.port import MAX_LINE_BYTES, FromGuest, Hello, Log, Stop, Welcome
from launcher.exchange.printable import printable

CONNECT_LIMIT_S: Final = 5.0
WRITE_LIMIT_S: Final = 60.0
# A hello is 40 bytes, a log line some hundred: far below what makes one core of the node busy.
PACE_BYTES_PER_S: Final = 512 * 1024
HELLO_PAUSE_S: Final = 0.1
# Of log lines, over a vm's life.
LOG_LIMIT_BYTES: Final = 1024 * 1024
LOG_LINE_CHARACTERS: Final = 500

_decoder = msgspec.json.Decoder(FromGuest)


class GuestPort:
    """One vm's port; connect once QEMU runs.

    Args:
        path: Of the Unix socket; of any length.
        on_log: Called with each line that the guest logs, printable and of at most 500 characters; up to a megabyte in
            all.

    Attributes:
        greeted: Set at the guest's first hello, its first sign of life.
    """

    def __init__(self, path: Path, *, on_log: Callable[[str], None] | None = None) -> None:
        self.greeted = asyncio.Event()
        self._path = path
        self._on_log = on_log
        self._log_bytes = 0
        self._stop: tuple[str, float] | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            OSError: Nobody listens there.
        """
        # Unix socket paths end at 107 bytes; by way of the folder's descriptor this one may be longer.
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                self._streams = await asyncio.open_unix_connection(
                    f"/proc/self/fd/{folder}/{self._path.name}", limit=MAX_LINE_BYTES
                )
        finally:
            os.close(folder)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()

    async def serve(self, make_welcome: Callable[[], Welcome]) -> None:
        """Answer hellos and hand on logs until the port closes, as it does with QEMU.

        Args:
            make_welcome: Called for each hello; gives a fresh time and fresh entropy each time.

        Raises:
            TimeoutError: The guest asks and does not read the answer.
        """
        assert self._streams is not None, "the port is not connected"
        reader, writer = self._streams
        # A reset is how QEMU's end looks like when it was killed.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                line = await _read_line(reader)
                await asyncio.sleep(len(line) / PACE_BYTES_PER_S)
                await self._receive(line, writer, make_welcome)

    async def ask_to_stop(self, stop: Stop) -> bool:
        """Tell the guest that its vm has to end soon, and again after each further hello; False when there is no guest.

        Raises:
            TimeoutError: The guest does not read.
        """
        self._stop = (stop.reason, time.monotonic() + stop.in_ms / 1000)
        if not self.greeted.is_set() or self._streams is None:
            return False
        await self._send(self._streams[1], stop)
        return True

    async def _receive(self, line: bytes, writer: asyncio.StreamWriter, make_welcome: Callable[[], Welcome]) -> None:
        try:
            message = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # RecursionError: 64 KiB have room for more brackets than msgspec goes down.
            return
        match message:
            case Hello():
                self.greeted.set()
                await self._send(writer, make_welcome())
                if self._stop is not None:
                    reason, at_s = self._stop
                    left_ms = max(0, round((at_s - time.monotonic()) * 1000))
                    await self._send(writer, Stop(in_ms=left_ms, reason=reason))
                await asyncio.sleep(HELLO_PAUSE_S)
            case Log(text):
                self._log_bytes += len(line)
                if self._on_log and self._log_bytes <= LOG_LIMIT_BYTES:
                    self._on_log(printable(text, LOG_LINE_CHARACTERS))

    @staticmethod
    async def _send(writer: asyncio.StreamWriter, message: Welcome | Stop) -> None:
        writer.write(msgspec.json.encode(message) + b"\n")
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(WRITE_LIMIT_S):
                await writer.drain()


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line, or a piece of one that is too long to mean anything."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError as error:
        return await reader.readexactly(max(error.consumed, 1))

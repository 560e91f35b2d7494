"""A receiver that costs next to nothing: it reads a callback's head and length, and answers 204."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"\r\nwebhook-id: *(\S+)", re.IGNORECASE)
_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver:
    """`told` has the ids of what came since it was bid to hold; the newest of them came at `last_s`."""

    def __init__(self) -> None:
        self.port = 0
        self.told: set[bytes] = set()
        self.last_s = 0.0
        self._loop = asyncio.new_event_loop()
        self._held: list[asyncio.Transport] | None = None

    def hold(self) -> None:
        """Forget what came, and answer nothing."""
        self.told.clear()
        self._held = []

    def let_go(self) -> None:
        """Answer what is held, and everything from then on."""
        self._loop.call_soon_threadsafe(self._let_go)

    def take(self, head: bytes, transport: asyncio.Transport) -> None:
        found = _ID.search(head)
        if found is not None and found[1] not in self.told:
            self.told.add(found[1])
            self.last_s = time.perf_counter()
        if self._held is None:
            transport.write(_ANSWER)
        else:
            self._held.append(transport)

    def _let_go(self) -> None:
        held, self._held = self._held or [], None
        for transport in held:
            transport.write(_ANSWER)

    def run(self, ready: threading.Event) -> None:
        """Serve until stopped."""
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(self._loop.create_server(lambda: _Line(self), "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        server.close()
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


class _Line(asyncio.Protocol):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        while _HEAD_END in self._came:
            head, _, rest = self._came.partition(_HEAD_END)
            length = _LENGTH.search(head)
            size = int(length[1]) if length else 0
            if len(rest) < size:
                return
            self._came = rest[size:]
            self._receiver.take(head, self._transport)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver in a thread of its own."""
    receiver, ready = Receiver(), threading.Event()
    thread = threading.Thread(target=receiver.run, args=(ready,), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield receiver
    finally:
        receiver.stop()
        thread.join()

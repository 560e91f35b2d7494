"""A way to a server that can be cut and mended, or that breaks by itself: a TCP relay on a port of its own."""

import contextlib
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tests.support.grid import free_port

_CHUNK_BYTES = 65_536


class CuttableWay:
    """Relays connections to `127.0.0.1:PORT` from `self.port` while it is open.

    The first connections break after as many answered bytes as `breaks` say, one after the other; later ones do not.
    """

    def __init__(self, port: int, breaks: Iterable[int] = (), *, records: bool = False) -> None:
        self.port = free_port()
        self._breaks = iter(breaks)
        self.broken = 0
        self.carried: bytearray | None = bytearray() if records else None
        """All that went either way."""
        self._to = port
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()

    def mend(self) -> None:
        """Let connections through."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """End every connection, and refuse new ones."""
        if self._listener is not None:
            _shut(self._listener)
        for connection in list(self._open):
            _shut(connection)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    near.close()
                    continue
                self._open |= {near, far}
                for source, sink, most in ((near, far, None), (far, near, next(self._breaks, None))):
                    threading.Thread(target=self._copy, args=(source, sink, most), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, most: int | None) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES if most is None else min(_CHUNK_BYTES, most)):
                sink.sendall(chunk)
                if self.carried is not None:
                    self.carried += chunk
                most = None if most is None else most - len(chunk)
                if most == 0:
                    self.broken += 1
                    break
            else:
                sink.shutdown(socket.SHUT_WR)
                return
        for end in (source, sink):
            _shut(end)
            self._open.discard(end)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextmanager
def cuttable_way(port: int, breaks: Iterable[int] = (), *, records: bool = False) -> Iterator[CuttableWay]:
    """A way to `127.0.0.1:PORT`, open at first, gone after the block."""
    way = CuttableWay(port, breaks, records=records)
    way.mend()
    try:
        yield way
    finally:
        way.cut()

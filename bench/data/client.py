"""The client, the same for every server: it sends out of the page cache and throws away what comes.

It costs as little as a client can: the kernel sends the file's own pages, and what comes is read into one buffer again
and again. So what is measured is the servers.
"""

import hashlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from bench.broker.drive import Address, read_http
from bench.failing import BenchFailed

_PIECE_BYTES = 1 << 20
_TIMEOUT_S = 120
_HEAD_END = b"\r\n\r\n"
_OK = 300


def put(address: Address, path: str, source: Path, token: str = "") -> float:
    """Send a file; return the seconds from opening the connection to the last byte of the answer.

    Raises:
        BenchFailed: it was not taken.
    """
    with source.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        begun_s = time.perf_counter()
        with socket.create_connection(address, timeout=_TIMEOUT_S) as connection:
            connection.sendall(_head("PUT", path, token, f"Content-Length: {size_bytes}\r\n"))
            connection.sendfile(file)
            answered = b""
            while (answer := read_http(answered)) is None:
                answered += _received(connection, path)
        took_s = time.perf_counter() - begun_s
    _check(answer.status, path, answered)
    return took_s


def get(address: Address, path: str, size_bytes: int, token: str = "") -> float:
    """Fetch a file of that size; return the seconds from opening the connection to the last byte.

    Raises:
        BenchFailed: something else came.
    """
    return _get(address, path, size_bytes, token, lambda _: None)


def digest_of(address: Address, path: str, size_bytes: int, token: str = "") -> str:
    """Fetch a file; return the SHA-256 of what came, in hexadecimal digits."""
    hasher = hashlib.sha256()
    _get(address, path, size_bytes, token, hasher.update)
    return hasher.hexdigest()


def delete(address: Address, path: str, token: str = "") -> None:
    """Remove a file.

    Raises:
        BenchFailed: it was not removed.
    """
    with socket.create_connection(address, timeout=_TIMEOUT_S) as connection:
        connection.sendall(_head("DELETE", path, token))
        answered = _received(connection, path)
    _check(int(answered[9:12]), path, answered)


def _get(address: Address, path: str, size_bytes: int, token: str, see: Callable[[memoryview], None]) -> float:
    buffer = bytearray(_PIECE_BYTES)
    view = memoryview(buffer)
    begun_s = time.perf_counter()
    with socket.create_connection(address, timeout=_TIMEOUT_S) as connection:
        connection.sendall(_head("GET", path, token))
        head = b""
        while _HEAD_END not in head:
            head += _received(connection, path)
        _check(int(head[9:12]), path, head)
        first = head.partition(_HEAD_END)[2]
        see(memoryview(first))
        left_bytes = size_bytes - len(first)
        while left_bytes > 0:
            came_bytes = connection.recv_into(buffer)
            if not came_bytes:
                raise BenchFailed(f"{left_bytes} bytes of {path} never came")
            see(view[:came_bytes])
            left_bytes -= came_bytes
        took_s = time.perf_counter() - begun_s
    if left_bytes:
        raise BenchFailed(f"{path} has more than {size_bytes} bytes")
    return took_s


def _head(method: str, path: str, token: str, more: str = "") -> bytes:
    proof = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"{method} {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n{proof}{more}\r\n".encode()


def _received(connection: socket.socket, path: str) -> bytes:
    chunk = connection.recv(_PIECE_BYTES)
    if not chunk:
        raise BenchFailed(f"the server closed the connection before it answered for {path}")
    return chunk


def _check(status: int, path: str, answered: bytes) -> None:
    if not 200 <= status < _OK:
        raise BenchFailed(f"{path} was answered {status}: {answered[:500]!r}")

"""beanstalkd's protocol, as bytes. Source: its protocol.txt."""

import socket

from bench.broker.calls import urls_of
from bench.broker.drive import Address, Answer, Talk
from bench.broker.talks import Work
from bench.failing import BenchFailed

_END = b"\r\n"
_LIMIT_S = 300
_READ_BYTES = 1 << 18


def push(address: Address, count: int) -> None:
    """Put so many jobs, a chunk in one go, each chunk when the last one was answered."""
    with socket.create_connection(address, timeout=_LIMIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for urls in urls_of(count):
            connection.sendall(b"".join(b"put 0 0 120 %d\r\n%s\r\n" % (len(url), url.encode()) for url in urls))
            answers = b""
            while answers.count(_END) < len(urls):
                chunk = connection.recv(_READ_BYTES)
                if not chunk:
                    raise BenchFailed("beanstalkd closed the connection")
                answers += chunk
            if answers.count(b"INSERTED ") != len(urls):
                raise BenchFailed(f"beanstalkd answered {answers[:200]!r}")


def worker(work: Work) -> Talk:
    """Reserve a job and delete it, until the work is done."""
    while work.left > 0:
        work.left -= 1
        reserved = yield b"reserve\r\n"
        if not reserved.body.startswith(b"RESERVED "):
            raise BenchFailed(f"beanstalkd answered {reserved.body[:200]!r}")
        deleted = yield b"delete %s\r\n" % reserved.body.split(b" ", 2)[1]
        if deleted.body != b"DELETED\r\n":
            raise BenchFailed(f"beanstalkd answered {deleted.body[:200]!r}")
        work.done += 1


def read_answer(received: bytes) -> Answer | None:
    """Read one whole answer; None while it is not whole."""
    line, end, rest = received.partition(_END)
    if not end:
        return None
    words = line.split(b" ")
    if words[0] == b"RESERVED" and len(rest) < int(words[2]) + len(_END):
        return None
    return Answer(0, received)

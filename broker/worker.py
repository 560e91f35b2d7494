"""One of several processes of a broker: `python -P -m broker.worker`, started by `broker.workers` alone.

What it is told comes on its standard input, so that nothing of it is seen in a list of processes. It answers with one
line on its standard output, when it serves or cannot. It dies with its parent, however that dies, as the one process of
a broker without workers would.
"""

import asyncio
import os
import signal
import socket
import sys

import msgspec
import structlog

from broker.auth.key_files import BadKeys
from broker.domain.errors import Unavailable
from broker.listening import CannotServe
from broker.process import STOP_SIGNALS, Duties, answering
from broker.store.die_with_parent import tie_to_parent
from broker.telemetry import configure_logging

log = structlog.get_logger(__name__)


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told: its duties, whose child it is, and the descriptor of its socket, bound already."""

    parent: int
    listener: int
    duties: Duties


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker answers; `fault` is a sentence when it cannot serve."""

    fault: str = ""


def main() -> int:
    """Serve until SIGTERM; return the exit status."""
    assignment = msgspec.json.decode(sys.stdin.buffer.read(), type=Assignment)
    tie_to_parent(assignment.parent, signal.SIGKILL)
    duties = assignment.duties
    configure_logging(duties.log_format, duties.log_level)
    structlog.contextvars.bind_contextvars(worker=duties.turns.place)
    try:
        asyncio.run(_serve(duties, socket.socket(fileno=assignment.listener)))
    except (CannotServe, BadKeys, Unavailable, OSError) as error:
        _report(Report(str(error)))
        return 1
    except ExceptionGroup:
        log.exception("worker_crashed")
        return 1
    return 0


async def _serve(duties: Duties, listener: socket.socket) -> None:
    stopping = asyncio.Event()
    for number in STOP_SIGNALS:
        # However often: a service manager tells every process to stop, and the parent tells it again.
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with answering(duties, listener):
        _report(Report())
        await stopping.wait()


def _report(report: Report) -> None:
    os.write(sys.stdout.fileno(), msgspec.json.encode(report) + b"\n")
    # The parent reads no more: what is printed by mistake goes where the log goes.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())

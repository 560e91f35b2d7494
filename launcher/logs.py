"""The launcher's log: a line for each event on stderr, which no text of a guest, image or program can break."""

import io
import sys
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from launcher.exchange.printable import printable

_VALUE_CHARACTERS: Final = 2_000
_TRACEBACK_CHARACTERS: Final = 64_000


def set_up_logs() -> None:
    """Have this process write its log: for a person at a terminal, in logfmt to anything else."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers(is_terminal=sys.stderr.isatty()),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def renderers(*, is_terminal: bool) -> list[Processor]:
    """Return what turns an event into a line; its values are made printable on the way."""
    if is_terminal:
        # Without the values of variables, which a fuller traceback has: tickets are among them.
        return [_made_printable, structlog.dev.ConsoleRenderer(exception_formatter=_write_traceback)]
    logfmt = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
    return [structlog.processors.format_exc_info, _made_printable, logfmt]


def _made_printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {name: _shown(name, value) for name, value in event.items()}


def _shown(name: str, value: object) -> object:
    if name == "exc_info" or value is None or isinstance(value, bool | int | float):
        return value
    if name == "exception":
        # The renderer writes the ends of its lines as \\n.
        return _lines(str(value))
    return printable(str(value), _VALUE_CHARACTERS)


def _write_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    written = io.StringIO()
    structlog.dev.plain_traceback(written, exc_info)
    stream.write(_lines(written.getvalue()))


def _lines(text: str) -> str:
    return "\n".join(printable(line, _VALUE_CHARACTERS) for line in text[:_TRACEBACK_CHARACTERS].split("\n"))

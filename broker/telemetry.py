"""Logs: structlog to stderr, one event a line: a constant name, its data beside it. Never a token or a payload.

Data may be a stranger's, an address that was asked for above all: as text it is made printable, as JSON it is.
"""

import io
import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


def configure_logging(log_format: LogFormat, level: LogLevel) -> None:
    """Set logging up for this process, the standard library's of other packages included."""
    renderers: list[structlog.typing.Processor] = [structlog.processors.JSONRenderer()]
    if log_format == "text":
        colors = sys.stderr.isatty()
        renderers = [
            _made_printable,
            structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_write_traceback),
        ]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    processors = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=processors, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # One line a request is ours to write, with the request's id.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def _made_printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {name: _printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _write_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    written = io.StringIO()
    structlog.dev.plain_traceback(written, exc_info)
    stream.write("\n".join(map(_printable, written.getvalue().split("\n"))))

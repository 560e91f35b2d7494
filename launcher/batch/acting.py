"""How a command of this package ends: its work done, or one sentence on stderr and a status."""

import asyncio
import sys
from collections.abc import Coroutine
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from launcher.batch.errors import Away, BatchError
from launcher.logs import set_up_logs

FAILED: Final = 1
USAGE: Final = 2
_INTERRUPTED: Final = 130


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text, or json.")]


def act(work: Coroutine[Any, Any, int | None]) -> None:
    """Run a command's work; it may return an exit status."""
    set_up_logs()
    try:
        status = asyncio.run(work)
    except BatchError as error:
        tell(str(error))
        sys.exit(FAILED if isinstance(error, Away) else USAGE)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        tell(f"{where}{error.strerror or error}")
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    sys.exit(status or 0)


def tell(sentence: str) -> None:
    """Write a line, or several, for the person who called."""
    for line in sentence.splitlines():
        typer.echo(f"launcher: {line}", err=True)

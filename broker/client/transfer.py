"""One file's bytes, by a signed address: fetched with the digest checked, or put create-only.

A put is create-only, so its repetition may meet the file that an earlier try had already written. The digest tells,
where the server gives it; where it does not, the target is this run's alone: only an earlier try can have written it.
Source: RFC 9530 (Repr-Digest), RFC 9110 section 13.1.2 (If-None-Match).
"""

import asyncio
import base64
import errno
import hashlib
import os
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from broker.client.errors import ApiError, CallError, Unreachable
from broker.client.repetition import is_passing
from broker.client.session import Session
from broker.wire.leases import SignedUrl
from broker.wire.problems import ProblemCode

CHUNK_BYTES = 262_144
BLOCK_BYTES = 1_048_576
"""What is read at once to be sent: a thread's turn for each block costs an emulated processor milliseconds."""
MAX_REFRESHES = 3
"""How often a 403 is taken for an address that grew old."""
MAX_FULL = 5
"""How often room for a file is waited for, a minute each time: somebody may be making it."""


class ContentDiffers(CallError):
    """What arrived is not what the server said it sends; another try may help."""


class FileFacts(NamedTuple):
    size_bytes: int
    digest: str


class Upload(NamedTuple):
    """A file to put: `sha256` is the digest of what `file`, at its beginning, will give."""

    file: BinaryIO
    size_bytes: int
    sha256: bytes


class RepeatJudge:
    """Tells of one transfer whether to try it again; a 403 or a full room only a few times."""

    def __init__(self) -> None:
        self._refreshes = 0
        self._full = 0

    def __call__(self, error: CallError) -> bool:
        if isinstance(error, ApiError) and error.status == HTTPStatus.FORBIDDEN:
            self._refreshes += 1
            return self._refreshes <= MAX_REFRESHES
        if isinstance(error, ApiError) and error.is_brokers and error.code is ProblemCode.QUOTA_EXCEEDED:
            self._full += 1
            return self._full <= MAX_FULL
        return isinstance(error, ContentDiffers) or is_passing(error)


async def fetch(session: Session, signed: SignedUrl, path: Path, *, limit_bytes: int | None = None) -> FileFacts:
    """Stream what is at the address to `path`, once.

    Raises:
        ContentDiffers: the bytes do not match the digest that came with them.
        CallError: no answer, an error, or more bytes than the limit.
        OSError: the file cannot be written.
    """
    hasher, size_bytes = hashlib.sha256(), 0
    async with session.open(signed.method, signed.url, headers=signed.headers) as response:
        if response.status != HTTPStatus.OK:
            raise Unreachable(f"the server answers {response.status}, and not with a file", is_lasting=True)
        expected = _sha256_of(response.headers)
        with path.open("wb") as file:
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                size_bytes += len(chunk)
                if limit_bytes is not None and size_bytes > limit_bytes:
                    raise Unreachable(f"it has more than the {limit_bytes} bytes there is room for", is_lasting=True)
                file.write(chunk)
                hasher.update(chunk)
    if expected is not None and expected != hasher.digest():
        raise ContentDiffers("the bytes that arrived do not match the digest that came with them")
    digest = f"sha256:{hasher.hexdigest()}"
    if signed.digest is not None and digest != signed.digest:
        raise ContentDiffers("the bytes that arrived do not match the digest that the broker knows")
    return FileFacts(size_bytes, digest)


async def put(session: Session, signed: SignedUrl, upload: Upload, *, may_be_ours: bool) -> None:
    """Put a file, once, unless there is one.

    Args:
        session: Through which.
        signed: Where to.
        upload: What.
        may_be_ours: Whether an earlier try may have put it there already.

    Raises:
        CallError: no answer, or an error; 412 where another file is there.
    """
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(upload.size_bytes),
        "Repr-Digest": f"sha-256=:{base64.b64encode(upload.sha256).decode()}:",
        "If-None-Match": "*",
        **signed.headers,
    }
    try:
        async with session.open(signed.method, signed.url, data=_Body(upload), headers=headers) as response:
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise Unreachable(f"the server answers {response.status}, and keeps nothing", is_lasting=True)
    except ApiError as error:
        if error.status != HTTPStatus.PRECONDITION_FAILED:
            raise
        there = await _digest_there(session, signed)
        if there != upload.sha256 and not (there is None and may_be_ours):
            raise


class _Body(aiohttp.Payload):
    """A file as the body of a request. Every writing begins anew: a redirect may have it sent again."""

    def __init__(self, upload: Upload) -> None:
        super().__init__(upload.file)
        self._descriptor = upload.file.fileno()
        self._size = upload.size_bytes

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> NoReturn:  # noqa: ARG002 # as the base class has it
        raise TypeError("a file's bytes are no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send what was announced, whatever the file grew by since.

        Raises:
            OSError: it became shorter, or cannot be read.
        """
        offset_bytes, end_bytes = 0, self._size or 0
        while offset_bytes < end_bytes:
            wanted_bytes = min(BLOCK_BYTES, end_bytes - offset_bytes)
            block = await asyncio.to_thread(os.pread, self._descriptor, wanted_bytes, offset_bytes)
            if not block:
                raise OSError(errno.ENODATA, "the file became shorter while it was sent")
            await writer.write(block)
            offset_bytes += len(block)


async def _digest_there(session: Session, signed: SignedUrl) -> bytes | None:
    """Ask for the digest of what is there already; None when the address does not tell."""
    try:
        async with session.open("HEAD", signed.url, headers=signed.headers) as response:
            return _sha256_of(response.headers)
    except ApiError:
        return None


def _sha256_of(headers: Mapping[str, str]) -> bytes | None:
    """Read the SHA-256 of a `Repr-Digest` field, None without one."""
    for part in headers.get("Repr-Digest", "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "sha-256" and value.startswith(":") and value.endswith(":"):
            try:
                return base64.b64decode(value.strip(":"), validate=True)
            except ValueError:
                return None
    return None

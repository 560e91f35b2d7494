"""One file's bytes put to a signed address, create-only; and whether a transfer is worth another try.

A put is create-only, so its repetition may meet the file that an earlier try had already written. The digest tells,
where the server gives it; where it does not, the target is this run's alone: only an earlier try can have written it,
and it is done if it has its size. A part of it, as a server leaves that writes in place, is replaced.
Source: RFC 9530 (Repr-Digest), RFC 9110 sections 10.1.1 (Expect) and 13.1 (conditions), RFC 4918 section 9.3.
"""

import asyncio
import base64
import errno
import hashlib
import os
from collections.abc import Mapping
from http import HTTPStatus
from typing import BinaryIO, NamedTuple, NoReturn

import aiohttp
import msgspec
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from broker.client.digests import sha256_of, sha256_of_s3
from broker.client.download import ContentDiffers
from broker.client.errors import ApiError, CallError, Unreachable, shown_address
from broker.client.hops import opened
from broker.client.pace import Pace, kept
from broker.client.repetition import is_passing
from broker.client.session import Session
from broker.wire.leases import SignedUrl, UploadFacts
from broker.wire.problems import ProblemCode

BLOCK_BYTES = 1_048_576
"""What is read at once to be sent: a thread's turn for each block costs an emulated processor milliseconds."""
MAX_REFRESHES = 3
"""How often a 403 is taken for an address that grew old."""
MAX_DIFFERENT = 3
"""How often what arrived may be something else than what was said of it."""
EXPECT_FROM_BYTES = 1_048_576
"""From this size on a server is asked before the bytes are sent: for fewer the question costs more than it spares."""
ANSWER_S = 300.0
"""For the answer once all is sent: a server may still have to write or to hash it."""
MAX_FULL = 5
"""How often room for a file is waited for, a minute each time: somebody may be making it."""

_OVER_IN_S3 = frozenset({"ExpiredToken", "RequestTimeTooSkewed"})
_PASSING_IN_S3 = frozenset({"ConditionalRequestConflict", "OperationAborted", "RequestTimeout"})
"""Of its 400s and 409s: another try of the same PUT was still going on there, or the bytes came too slowly."""
_PASSING_ELSEWHERE = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
"""What servers other than a broker answer when the body came too slowly, or too soon."""
_MADE_BEFORE = frozenset({HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.MOVED_PERMANENTLY})
_EMPTY = hashlib.sha256().digest()
_OF_UPLOADS = ("content-", "if-", "x-amz-")
"""Beginnings of the headers that go with an upload alone."""


class Upload(NamedTuple):
    """A file to put: `sha256` is the digest of what `file`, at its beginning, will give."""

    file: BinaryIO
    size_bytes: int
    sha256: bytes

    @property
    def facts(self) -> UploadFacts:
        return UploadFacts(size_bytes=self.size_bytes, digest=f"sha256:{self.sha256.hex()}")


class RepeatJudge:
    """Tells of one transfer whether to try it again; a 403 or a full room only a few times."""

    def __init__(self) -> None:
        self._refreshes = 0
        self._full = 0
        self._different = 0

    def __call__(self, error: CallError) -> bool:
        if isinstance(error, ApiError) and (error.status == HTTPStatus.FORBIDDEN or error.s3_code in _OVER_IN_S3):
            self._refreshes += 1
            return self._refreshes <= MAX_REFRESHES
        if isinstance(error, ApiError) and error.is_brokers and error.code is ProblemCode.QUOTA_EXCEEDED:
            self._full += 1
            return self._full <= MAX_FULL
        if isinstance(error, ContentDiffers):
            self._different += 1
            return self._different < MAX_DIFFERENT
        if not isinstance(error, ApiError) or error.is_brokers:
            return is_passing(error)
        return is_passing(error) or error.status in _PASSING_ELSEWHERE or error.s3_code in _PASSING_IN_S3


async def put(
    session: Session, signed: SignedUrl, upload: Upload, *, may_be_ours: bool, sending: "Sending | None" = None
) -> None:
    """Put a file, once, unless there is one; the collections that it needs are made before.

    Args:
        session: Through which.
        signed: Where to.
        upload: What.
        may_be_ours: Whether an earlier try may have put it there already.
        sending: Told how far it is.

    Raises:
        ContentDiffers: the server says that it stored something else.
        CallError: no answer, an error, or too slow; 412 where another file is there.
    """
    for folder in signed.folders:
        await _make(session, signed, folder)
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(upload.size_bytes),
        "Repr-Digest": f"sha-256=:{base64.b64encode(upload.sha256).decode()}:",
    }
    if upload.size_bytes >= EXPECT_FROM_BYTES:
        headers["Expect"] = "100-continue"
    sending = sending or Sending()
    condition = {"If-None-Match": "*"}
    for is_last in (False, False, True):
        try:
            return await _send(session, signed, headers | condition, upload, sending)
        except ApiError as error:
            if error.status != HTTPStatus.PRECONDITION_FAILED:
                raise
            there = await _what_is_there(session, signed)
            is_ours = there.sha256 is None and (may_be_ours or sending.has_begun_anew)
            if there.sha256 == upload.sha256 or (is_ours and there.size_bytes in {None, upload.size_bytes}):
                return None
            if not is_ours or there.tag is None or is_last:
                raise
            # A server that writes in place keeps what came of a try that was cut: the rest of it is nobody's result.
            condition = {"If-Match": there.tag}
    return None


async def _send(
    session: Session, signed: SignedUrl, headers: Mapping[str, str], upload: Upload, sending: "Sending"
) -> None:
    body = _Body(upload, sending)
    try:
        async with (
            kept(sending.pace, lambda: sending.moved_bytes),
            opened(session, signed, headers, body=body, idle_timeout_s=ANSWER_S) as response,
        ):
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise Unreachable(f"the server answers {response.status}, and keeps nothing", is_lasting=True)
            _check_stored(response, upload)
    finally:
        sending.end()


class Sending:
    """How far one upload is, over all its tries.

    Attributes:
        sent_bytes: How many the kernel took in this try.
    """

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self._writer: AbstractStreamWriter | None = None
        self._offset_bytes = 0
        self._before_bytes = 0
        self._tries = 0

    @property
    def sent_bytes(self) -> int:
        transport = None if self._writer is None else self._writer.transport
        return self._offset_bytes - (0 if transport is None else transport.get_write_buffer_size())

    @property
    def has_begun_anew(self) -> bool:
        """Tell whether bytes went more than once: aiohttp itself repeats a PUT whose connection broke."""
        return self._tries > 1

    @property
    def moved_bytes(self) -> int | None:
        """Return what moved in all tries; None while no bytes are due."""
        return None if self._writer is None else self._before_bytes + self.sent_bytes

    def begin(self, writer: AbstractStreamWriter) -> None:
        self._before_bytes += self._offset_bytes
        self._tries += 1
        self._writer, self._offset_bytes = writer, 0

    def add(self, count: int) -> None:
        self._offset_bytes += count

    def end(self) -> None:
        self._writer = None


class _Body(aiohttp.Payload):
    """A file as the body of a request. Every writing begins anew: a redirect may have it sent again."""

    def __init__(self, upload: Upload, sending: Sending) -> None:
        super().__init__(upload.file)
        self._sending = sending
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
        self._sending.begin(writer)
        while offset_bytes < end_bytes:
            wanted_bytes = min(BLOCK_BYTES, end_bytes - offset_bytes)
            block = await asyncio.to_thread(os.pread, self._descriptor, wanted_bytes, offset_bytes)
            if not block:
                raise OSError(errno.ENODATA, "the file became shorter while it was sent")
            # Before it is written: what the kernel did not take yet is known from the transport.
            self._sending.add(len(block))
            await writer.write(block)
            offset_bytes += len(block)
        await writer.drain()
        self._sending.end()


class _There(NamedTuple):
    """What an address tells of the file that is there already; None for what it does not tell."""

    sha256: bytes | None = None
    size_bytes: int | None = None
    tag: str | None = None


async def _what_is_there(session: Session, signed: SignedUrl) -> _There:
    # What is signed of an upload belongs to its body: a length without one would leave a server waiting for it.
    asked = {name: value for name, value in signed.headers.items() if not name.lower().startswith(_OF_UPLOADS)}
    try:
        async with opened(session, msgspec.structs.replace(signed, headers=asked), {}, method="HEAD") as response:
            size = response.headers.get("Content-Length", "")
            return _There(
                sha256_of(response.headers), int(size) if size.isdecimal() else None, response.headers.get("ETag")
            )
    except ApiError:
        return _There()


async def _make(session: Session, signed: SignedUrl, folder: str) -> None:
    """Make a WebDAV collection, if it is not there. It gets the headers of the upload where it is of that origin."""
    is_same = URL(folder).origin() == URL(signed.url).origin()
    # A length, too: some servers would wait for a body where none is told.
    headers = {"Content-Length": "0", **(signed.headers if is_same else {})}
    try:
        async with session.open("MKCOL", folder, headers=headers, is_bare=True) as response:
            if response.status >= HTTPStatus.MULTIPLE_CHOICES and response.status not in _MADE_BEFORE:
                raise Unreachable(f"the server answers MKCOL with {response.status}", is_lasting=True)
    except ApiError as error:
        if error.status == HTTPStatus.CONFLICT:
            shown = shown_address(folder)
            sentence = f"the folder {shown} cannot be made: the one above it is not there, and has to be made by hand"
            raise Unreachable(sentence, is_lasting=True) from error
        if error.status not in _MADE_BEFORE:
            raise


def _check_stored(response: aiohttp.ClientResponse, upload: Upload) -> None:
    """Compare what the server says that it stored, where it says so.

    An answer with a body of its own tells that body's digest, unless `Content-Location` names the file.
    """
    told = [sha256_of_s3(response.headers)]
    if response.headers.get("Content-Length", "0") == "0" or "Content-Location" in response.headers:
        told.append(sha256_of(response.headers))
    size = response.headers.get("x-amz-object-size", str(upload.size_bytes))
    if size != str(upload.size_bytes) or any(digest not in {None, upload.sha256, _EMPTY} for digest in told):
        raise ContentDiffers("the server says that it stored something else than what was sent")

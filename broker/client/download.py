"""One file's bytes from a signed address: gone on with where a cut left off, and checked by all that is said of them.

A further piece is asked for with `Range` and `If-Range`, so that no file is sewn together of two versions of it; a
server that sends the whole again is heard from its beginning.
Source: RFC 9110, sections 8.8 (validators), 13.1.5 (If-Range) and 14 (ranges); RFC 9530 (digests).
"""

import hashlib
import re
import shutil
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, NamedTuple

import aiohttp

from broker.client.digests import sha256_of
from broker.client.errors import ApiError, CallError, Unreachable, shown_url
from broker.client.hops import opened
from broker.client.pace import Pace, kept
from broker.client.session import Session
from broker.wire.leases import SignedUrl

CHUNK_BYTES = 262_144
SPARED_BYTES = 33_554_432
"""What is left free of a disk: the program wants to write, too."""
ROOM_EVERY_BYTES = 67_108_864
"""How often the room is looked at where the server does not say how much it will send."""
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')


class ContentDiffers(CallError):
    """What arrived is not what was said of it; another try may help."""


class FileFacts(NamedTuple):
    size_bytes: int
    digest: str


class Download:
    """A file on its way to `path`, over as many tries as it takes.

    Attributes:
        arrived_bytes: How many are there; less than before where a server had to begin anew.
        total_bytes: How many it will have; None where nobody says.
    """

    def __init__(self, path: Path, *, limit_bytes: int | None = None, pace: Pace | None = None) -> None:
        self.arrived_bytes = 0
        self.total_bytes: int | None = None
        self._path = path
        self._limit_bytes = limit_bytes
        self._pace = pace or Pace()
        self._moved_bytes = 0
        self._validator: str | None = None
        self._digest: bytes | None = None
        self._hasher = hashlib.sha256()

    async def go_on(self, session: Session, signed: SignedUrl) -> FileFacts:
        """Fetch what is not there yet, once.

        Raises:
            ContentDiffers: the bytes, or how many they are, do not match what was said of them; they are forgotten.
            CallError: no answer, an error, too slow, or more bytes than there is room for.
            OSError: the file cannot be written.
        """
        wants_rest = self._validator is not None and self.arrived_bytes > 0
        headers = {"Range": f"bytes={self.arrived_bytes}-", "If-Range": self._validator or ""} if wants_rest else {}
        try:
            async with kept(self._pace, lambda: self._moved_bytes), opened(session, signed, headers) as response:
                await self._take(response, signed)
        except ContentDiffers:
            self._forget()
            raise
        except ApiError as error:
            if error.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not wants_rest:
                raise
            self._forget()
            raise ContentDiffers("the server does not go on with what it began: it is fetched anew") from error
        except Unreachable as error:
            if self.total_bytes is None or error.is_lasting or self.arrived_bytes == 0:
                raise
            raise Unreachable(f"{error}, after {self.arrived_bytes} of {self.total_bytes} bytes") from error
        return self._checked(signed)

    async def _take(self, response: aiohttp.ClientResponse, signed: SignedUrl) -> None:
        if response.status == HTTPStatus.PARTIAL_CONTENT and self.arrived_bytes:
            self._check_piece(response)
        elif response.status == HTTPStatus.OK:
            self._begin(response, signed)
        else:
            raise Unreachable(f"the server answers {response.status}, and not with a file", is_lasting=True)
        self._check_room(0 if self.total_bytes is None else self.total_bytes - self.arrived_bytes)
        piece_digest = sha256_of(response.headers, "Content-Digest")
        piece = hashlib.sha256() if piece_digest is not None else None
        with self._path.open("r+b" if self.arrived_bytes else "wb") as file:
            file.seek(self.arrived_bytes)
            file.truncate()
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                self._keep(file, chunk)
                if piece is not None:
                    piece.update(chunk)
        if piece is not None and piece.digest() != piece_digest:
            raise ContentDiffers("the bytes that arrived do not match the digest that came with them")
        if self.total_bytes is not None and self.arrived_bytes < self.total_bytes:
            raise Unreachable(f"{shown_url(response.url)} ended its answer early")

    def _begin(self, response: aiohttp.ClientResponse, signed: SignedUrl) -> None:
        self._forget()
        announced = response.headers.get("Content-Length", "")
        self.total_bytes = int(announced) if announced.isascii() and announced.isdigit() else signed.size_bytes
        if signed.size_bytes not in {None, self.total_bytes}:
            raise ContentDiffers(
                f"the server announces {self.total_bytes} bytes, and the broker knows {signed.size_bytes} of it"
            )
        self._validator = _validator(response)
        self._digest = sha256_of(response.headers)

    def _check_piece(self, response: aiohttp.ClientResponse) -> None:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != self.arrived_bytes or int(found[2]) < int(found[1]):
            sentence = f"the server was asked to go on at byte {self.arrived_bytes}, and sends something else"
            raise ContentDiffers(sentence)
        total_bytes = self.total_bytes if found[3] == "*" else int(found[3])
        if self.total_bytes is None:
            self.total_bytes = total_bytes
        tag, validator = response.headers.get("ETag"), self._validator or ""
        is_another = tag is not None and validator.startswith('"') and tag != validator
        if total_bytes != self.total_bytes or is_another:
            raise ContentDiffers("the file was replaced by another while it was fetched")

    def _keep(self, file: BinaryIO, chunk: bytes) -> None:
        before_bytes, after_bytes = self.arrived_bytes, self.arrived_bytes + len(chunk)
        self._moved_bytes += len(chunk)
        if self.total_bytes is not None and after_bytes > self.total_bytes:
            raise ContentDiffers(f"the server sends more than the {self.total_bytes} bytes that it has")
        if self.total_bytes is None and after_bytes // ROOM_EVERY_BYTES > before_bytes // ROOM_EVERY_BYTES:
            file.flush()
            self._check_room(ROOM_EVERY_BYTES)
        if self._limit_bytes is not None and after_bytes > self._limit_bytes:
            raise Unreachable(f"it has more than the {self._limit_bytes} bytes there is room for", is_lasting=True)
        file.write(chunk)
        self._hasher.update(chunk)
        self.arrived_bytes = after_bytes

    def _check_room(self, wanted_bytes: int) -> None:
        """Refuse what the disk has no room for before it is full."""
        if self._limit_bytes is not None and (self.total_bytes or 0) > self._limit_bytes:
            raise Unreachable(
                f"it has {self.total_bytes} bytes, more than the {self._limit_bytes} bytes there is room for",
                is_lasting=True,
            )
        free_bytes = max(0, shutil.disk_usage(self._path.parent).free - SPARED_BYTES)
        if wanted_bytes > free_bytes:
            size = "more" if self.total_bytes is None else f"{self.total_bytes} bytes"
            room = f"the disk has room for {self.arrived_bytes + free_bytes}: give the machine a larger one"
            raise Unreachable(f"it has {size}, and {room}", is_lasting=True)

    def _checked(self, signed: SignedUrl) -> FileFacts:
        facts = FileFacts(self.arrived_bytes, f"sha256:{self._hasher.hexdigest()}")
        is_other = self._digest is not None and self._digest != self._hasher.digest()
        if is_other or signed.digest not in {None, facts.digest}:
            self._forget()
            whose = "that came with them" if is_other else "that the broker knows"
            raise ContentDiffers(f"the bytes that arrived do not match the digest {whose}")
        return facts

    def _forget(self) -> None:
        self.arrived_bytes, self.total_bytes = 0, None
        self._validator = self._digest = None
        self._hasher = hashlib.sha256()


async def fetch(
    session: Session, signed: SignedUrl, path: Path, *, limit_bytes: int | None = None, pace: Pace | None = None
) -> FileFacts:
    """Stream what is at the address to `path`, once; raises as `Download.go_on` does."""
    return await Download(path, limit_bytes=limit_bytes, pace=pace).go_on(session, signed)


def _validator(response: aiohttp.ClientResponse) -> str | None:
    """Return what tells this version of the file from all others, None where a piece of it could not be asked for."""
    if response.headers.get("Accept-Ranges", "").strip().lower() == "none":
        return None
    tag = response.headers.get("ETag", "")
    if _STRONG_ETAG.fullmatch(tag):
        return tag
    changed = response.headers.get("Last-Modified", "")
    try:
        age = parsedate_to_datetime(response.headers.get("Date", "")) - parsedate_to_datetime(changed)
        return changed if age.total_seconds() >= 1 else None
    except (TypeError, ValueError):
        return None

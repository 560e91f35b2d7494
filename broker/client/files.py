"""Files and images, up and down: streamed, with their digest sent along and checked."""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from broker.client.digests import sha256_of
from broker.client.direct import TRANSFER_PATIENCE, Counted, DirectUploads, Progress
from broker.client.downloads import BLOCK_BYTES, Busy, Known, PartFile, download
from broker.client.errors import ApiError, CallError, may_help_to_repeat
from broker.client.file_uploads import RESUMABLE_BYTES, digest_field, plain_url, upload_file
from broker.client.session import Session
from broker.client.uploads import Upload
from broker.wire.files import AnnounceFile, FileView
from broker.wire.machines import ImageView
from broker.wire.names import Digest
from broker.wire.problems import ProblemCode

CHUNK_BYTES = 1_048_576
_NOT_FOUND = 404


class Content(NamedTuple):
    """What a local file holds."""

    digest: Digest
    size_bytes: int


class DownloadDiffers(Exception):
    """What arrived is not what the broker named; nothing was kept."""


def silent(_: int) -> None:
    """Take no notice of progress."""


async def read_content(path: Path, progress: Progress = silent) -> Content:
    """Hash a local file."""
    hasher = hashlib.sha256()
    size_bytes = 0
    async for chunk in _chunks(path, progress):
        await asyncio.to_thread(hasher.update, chunk)
        size_bytes += len(chunk)
    return Content(Digest(f"sha256:{hasher.hexdigest()}"), size_bytes)


class Files:
    """The transfers of one session. Each is repeated where that may help, as a whole but for images.

    Every method raises `ApiError` when the broker refuses and `Unreachable` when no answer came.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._direct = DirectUploads(session)

    async def has_image(self, digest: Digest) -> bool:
        """Tell whether the broker holds an image for this user."""
        try:
            await self._session.send("HEAD", f"/v1/images/{digest}")
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return False
            raise
        return True

    async def put_image(self, path: Path, content: Content, progress: Progress = silent) -> ImageView:
        """Upload an image, from where an earlier upload of it stopped; the broker proves its digest.

        Goes on over errors as long as bytes come through; when it gives up, what arrived stays at the broker for a day.

        Raises:
            FileChanged: the file became shorter meanwhile.
        """
        await Upload(self._session, path, content.digest, content.size_bytes, progress).run()
        return ImageView(digest=content.digest, size_bytes=content.size_bytes)

    async def put_file(
        self, path: Path, name: str, content: Content, progress: Progress = silent, *, create_only: bool = False
    ) -> FileView:
        """Upload a file as `name` (`USER/PATH`): a large one from where an earlier upload of it stopped, in parts.

        Raises:
            FileChanged: the file became shorter meanwhile.
        """
        said = AnnounceFile(size_bytes=content.size_bytes, digest=content.digest, create_only=create_only)
        url = f"/v1/files/{quote(name, safe='/')}"
        there = await self._direct.put(url, said, lambda counted: _chunks(path, counted), progress)
        if there is None and content.size_bytes >= RESUMABLE_BYTES:
            there = await self._put_resumably(path, name, content, progress, create_only=create_only)
        headers = {"If-None-Match": "*"} if create_only else {}
        return there or await self._put(url, path, content, progress, headers)

    async def _put_resumably(
        self, path: Path, name: str, content: Content, progress: Progress, *, create_only: bool
    ) -> FileView | None:
        """Upload it so that it can be gone on with; None with a token that may write files and nothing else."""
        try:
            await upload_file(
                self._session, path, name, content.digest, content.size_bytes, progress, create_only=create_only
            )
        except ApiError as error:
            if error.code is not ProblemCode.FORBIDDEN:
                raise
            return None
        url = plain_url(self._session, name)
        return FileView(file=f"file:{name}", size_bytes=content.size_bytes, digest=content.digest, url=url)

    async def get_file(self, url: str, path: Path, expected: Content | None, progress: Progress = silent) -> Content:
        """Download an address, or a path of the broker, to `path`: whole and as expected, or not at all.

        Without an expectation it is the digest that the broker sends along which must match. A large file comes in
        ranges, some at once, and goes on where an earlier download of it to the same folder stopped.

        Raises:
            DownloadDiffers: size or digest are not what was expected, or the digest to expect was not sent.
        """
        known = await self._known(url)
        if known is not None and known.size_bytes > BLOCK_BYTES and expected in {None, Content(*known)}:
            with suppress(Busy):
                return await self._in_ranges(url, path, known, progress)
        for attempt in range(1, TRANSFER_PATIENCE.attempts + 1):
            try:
                return await self._download(url, path, expected, progress)
            except CallError as error:
                if attempt == TRANSFER_PATIENCE.attempts or not may_help_to_repeat(error):
                    raise
            await asyncio.sleep(TRANSFER_PATIENCE.delay_s(attempt, None))
        raise AssertionError("a patience has at least one attempt")

    async def _known(self, url: str) -> Known | None:
        """Return size and digest of what can be had in ranges; None where that is not told."""
        try:
            async with self._session.open("HEAD", url) as answer:
                digest, size = _announced(answer.headers), answer.headers.get("Content-Length")
                if digest is None or size is None or answer.headers.get("Accept-Ranges") != "bytes":
                    return None
                return Known(digest, int(size))
        except CallError:
            return None  # the GET tells what is wrong

    async def _in_ranges(self, url: str, path: Path, known: Known, progress: Progress) -> Content:
        with PartFile(path.parent, known) as part:
            await download(self._session, url, part, progress)
            found = await asyncio.to_thread(part.digest)
            if found != known.digest:
                part.remove()
                raise DownloadDiffers(
                    f"{path.name} arrived with {found}, the broker named {known.digest}: nothing was kept, try again"
                )
            await asyncio.to_thread(part.become, path)
        return Content(*known)

    async def _put(
        self, url: str, path: Path, content: Content, progress: Progress, headers: dict[str, str]
    ) -> FileView:
        sent = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(content.size_bytes),
            "Repr-Digest": digest_field(content.digest),
            **headers,
        }
        for attempt in range(1, TRANSFER_PATIENCE.attempts + 1):
            counted = Counted(progress)
            try:
                data = _chunks(path, counted)
                async with self._session.open("PUT", url, data=data, headers=sent, idle_timeout_s=300) as reply:
                    return msgspec.json.decode(await reply.read(), type=FileView)
            except CallError as error:
                if attempt == TRANSFER_PATIENCE.attempts or not may_help_to_repeat(error):
                    raise
            progress(-counted.bytes)
            await asyncio.sleep(TRANSFER_PATIENCE.delay_s(attempt, None))
        raise AssertionError("a patience has at least one attempt")

    async def _download(self, url: str, path: Path, expected: Content | None, progress: Progress) -> Content:
        beside = path.with_name(f".{secrets.token_hex(8)}")  # beside a name of any length, its own has room
        try:
            content, announced = await self._receive(url, beside, progress)
            if expected is None and announced is None:
                raise DownloadDiffers(f"{path.name} was sent without a SHA-256 to check it by: nothing was kept")
            if expected is not None and content != expected:
                raise DownloadDiffers(
                    f"{path.name} arrived with {content.size_bytes} bytes and {content.digest}, expected were "
                    f"{expected.size_bytes} bytes and {expected.digest}: nothing was kept"
                )
            if expected is None and content.digest != announced:
                raise DownloadDiffers(
                    f"{path.name} arrived with {content.digest}, the broker named {announced}: nothing was kept"
                )
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        return content

    async def _receive(self, url: str, path: Path, progress: Progress) -> tuple[Content, Digest | None]:
        """Write what comes to a new file; return what it is, and the digest that was announced with it."""
        hasher, size_bytes = hashlib.sha256(), 0
        async with self._session.open("GET", url) as answer:
            # Where the broker leads to S3, which knows no such field, it told the digest with the way.
            told = answer.history[0] if answer.history else answer
            announced = _announced(told.headers)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    file.write(chunk)
                    hasher.update(chunk)
                    size_bytes += len(chunk)
                    progress(len(chunk))
        return Content(Digest(f"sha256:{hasher.hexdigest()}"), size_bytes), announced


def _announced(headers: Mapping[str, str]) -> Digest | None:
    found = sha256_of(headers)
    return Digest(f"sha256:{found.hex()}") if found else None


async def _chunks(path: Path, progress: Progress) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
            progress(len(chunk))

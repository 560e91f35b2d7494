"""An image or a file up, in parts, from wherever it stands: the sender's side of the tus protocol 1.0.

The broker knows how far one came, and answers the same bytes announced again, to be resumed, with the upload that
is open: so nothing is remembered here, and the next process goes on where one that died was. Each part carries its
SHA-256.
"""

import asyncio
import base64
import errno
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from broker.client.errors import ApiError, CallError, may_help_to_repeat
from broker.client.session import Patience, Session
from broker.wire.machines import UploadView
from broker.wire.problems import ProblemCode

PART_BYTES = 16_777_216
_PIECE_BYTES = 1_048_576
HEADERS = {"Tus-Resumable": "1.0.0"}
_NO_PROGRESS_S = 300.0
"""Without a byte for so long the upload is given up; what arrived stays at the broker for a day."""
_PROVING_S = 3_600.0
"""A broker that was started anew reads the whole image once more before it is taken."""
_ANSWER_S = 120.0
_PAUSES = Patience(first_delay_s=0.25, max_delay_s=10.0)
_GO_ON = frozenset(
    {
        ProblemCode.NOT_FOUND,
        ProblemCode.OFFSET_DIFFERS,
        ProblemCode.UPLOAD_BUSY,
        ProblemCode.TOO_SLOW,
        ProblemCode.CHECKSUM_MISMATCH,
    }
)
"""Refusals after which the broker is asked where the upload stands."""


class FileChanged(OSError):
    """The file became shorter while it was uploaded; `filename` is its path."""


async def unfinished_uploads(session: Session) -> list[UploadView]:
    """Return the user's uploads that are not complete, whoever began them."""
    return await session.call("GET", "/v1/uploads", answer=list[UploadView])


async def drop_upload(session: Session, upload: str) -> None:
    """Remove an upload and its bytes. Idempotent.

    Raises:
        ApiError: among others `upload_busy`: bytes come in just now.
    """
    try:
        await session.send("DELETE", f"/v1/uploads/{upload}", headers=HEADERS)
    except ApiError as error:
        if error.code is not ProblemCode.NOT_FOUND:
            raise


class Upload:
    """Bytes of a local file on their way. `progress` is told those that went by, less than none when some go again.

    They are all of the file, or `size_bytes` from `start_bytes`, and have `digest`; they become an image unless
    `headers` and `metadata` say otherwise.
    """

    def __init__(
        self,
        session: Session,
        path: Path,
        digest: str,
        size_bytes: int,
        progress: Callable[[int], None],
        *,
        start_bytes: int = 0,
        metadata: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._start_bytes = start_bytes
        self._metadata = metadata
        self._announced = dict(headers or {})
        self._session = session
        self._path = path
        self._digest = digest
        self._size_bytes = size_bytes
        self._progress = progress
        self._told_bytes = 0
        self._offset_bytes = 0

    async def run(self) -> str:
        """Upload all that the broker does not have yet; return when it took it, with the upload's address.

        Raises:
            ApiError: the broker refuses.
            Unreachable: no byte came through for five minutes.
            FileChanged: the file became shorter meanwhile.
        """
        url: str | None = None
        failures, moved_s, furthest_bytes = 0, time.monotonic(), 0
        while True:
            try:
                url = url or await self._begin()
                await self._go_on(url)
            except CallError as error:
                if self._offset_bytes > furthest_bytes:
                    failures, moved_s, furthest_bytes = 0, time.monotonic(), self._offset_bytes
                if not _may_go_on(error) or time.monotonic() - moved_s > self._patience_s:
                    raise
                failures += 1
                url = None if _is_gone(error) else url
                await asyncio.sleep(_PAUSES.delay_s(failures, _retry_after_s(error)))
            else:
                return url

    @property
    def _patience_s(self) -> float:
        return _PROVING_S if self._offset_bytes == self._size_bytes else _NO_PROGRESS_S

    async def _begin(self) -> str:
        headers = {**HEADERS, **self._announced, **announcing(self._digest, self._size_bytes, self._metadata)}
        reply = await self._session.send("POST", "/v1/uploads", headers=headers)
        return f"/v1/uploads/{reply.headers['Location'].rpartition('/')[2]}"

    async def _go_on(self, url: str) -> None:
        reply = await self._session.send("HEAD", url, headers=HEADERS)
        self._stand_at(int(reply.headers["Upload-Offset"]))
        await self._send_part(url)  # an upload that is complete and not proved yet is by an empty part
        while self._offset_bytes < self._size_bytes:
            await self._send_part(url)

    async def _send_part(self, url: str) -> None:
        part = await asyncio.to_thread(self._read_part)
        checksum = base64.b64encode((await asyncio.to_thread(hashlib.sha256, part)).digest()).decode()
        headers = {
            **HEADERS,
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(len(part)),
            "Upload-Offset": str(self._offset_bytes),
            "Upload-Checksum": f"sha256 {checksum}",
        }
        async with self._session.open(
            "PATCH", url, data=self._pieces(part), headers=headers, idle_timeout_s=_ANSWER_S
        ) as reply:
            await reply.read()
            self._stand_at(int(reply.headers["Upload-Offset"]))

    def _read_part(self) -> bytes:
        size_bytes = min(PART_BYTES, self._size_bytes - self._offset_bytes)
        with self._path.open("rb") as file:
            file.seek(self._start_bytes + self._offset_bytes)
            part = file.read(size_bytes)
        if len(part) < size_bytes:
            raise FileChanged(errno.ESTALE, "it became shorter while it was uploaded", str(self._path))
        return part

    async def _pieces(self, part: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(part), _PIECE_BYTES):
            piece = part[at : at + _PIECE_BYTES]
            yield piece
            self._tell(len(piece))

    def _stand_at(self, offset_bytes: int) -> None:
        self._offset_bytes = offset_bytes
        self._tell(offset_bytes - self._told_bytes)

    def _tell(self, count: int) -> None:
        if count:
            self._told_bytes += count
            self._progress(count)


def announcing(digest: str, size_bytes: int | None, more: str = "") -> dict[str, str]:
    """Return the headers that announce bytes, to be resumed; `more` are further pairs, each after a comma."""
    announced = base64.b64encode(digest.encode()).decode()
    length = {} if size_bytes is None else {"Upload-Length": str(size_bytes)}
    return {**length, "Upload-Metadata": f"digest {announced}{more},resume"}


def _may_go_on(error: CallError) -> bool:
    return may_help_to_repeat(error) or (isinstance(error, ApiError) and error.code in _GO_ON)


def _is_gone(error: CallError) -> bool:
    return isinstance(error, ApiError) and error.code is ProblemCode.NOT_FOUND


def _retry_after_s(error: CallError) -> float | None:
    return error.problem.retry_after_s if isinstance(error, ApiError) else None

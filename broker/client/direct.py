"""Files past the broker: announced with size and digest, and sent straight to where it keeps them, if it says where."""

import asyncio
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from broker.client.errors import ApiError, CallError, may_help_to_repeat
from broker.client.session import Patience, Session
from broker.wire.files import AnnouncedFile, AnnounceFile, FileView

TRANSFER_PATIENCE = Patience(attempts=6, total_s=600.0)
_ASK_AGAIN = {HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED}
"""What S3 answers where an address grew old, or where another try was quicker: the broker knows more."""

Progress = Callable[[int], None]
"""Told the bytes that went by since it was last told."""


class Counted:
    """Progress of one attempt, which may have to be taken back."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.bytes = 0

    def __call__(self, count: int) -> None:
        self.bytes += count
        self._progress(count)


class DirectUploads:
    """The uploads of one session that go past its broker. Whether there are any is asked once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._is_there = True

    async def put(
        self, path: str, said: AnnounceFile, read: Callable[[Progress], AsyncIterator[bytes]], progress: Progress
    ) -> FileView | None:
        """Send what `read` gives, once it is told where; None when it has to be sent to the broker.

        What is there already with these bytes is not sent at all.

        Raises:
            ApiError: the broker, or S3, refused.
            Unreachable: no answer came.
        """
        if not self._is_there:
            return None
        for attempt in range(1, TRANSFER_PATIENCE.attempts + 1):
            told = await self._announce(path, said)
            if told.file is not None or told.upload is None:
                return told.file
            counted = Counted(progress)
            try:
                async with self._session.open(
                    told.upload.method,
                    told.upload.url,
                    data=read(counted),
                    headers=told.upload.headers,
                    idle_timeout_s=300,
                ):
                    pass
            except CallError as error:
                if attempt == TRANSFER_PATIENCE.attempts or not _may_help(error):
                    raise
                progress(-counted.bytes)
                await asyncio.sleep(TRANSFER_PATIENCE.delay_s(attempt, None))
            else:
                told = await self._announce(path, said)
                if told.file is not None:
                    return told.file
                progress(-counted.bytes)
        return None

    async def _announce(self, path: str, said: AnnounceFile) -> AnnouncedFile:
        try:
            told = await self._session.call("POST", path, body=said, answer=AnnouncedFile)
        except ApiError as error:
            if error.status != HTTPStatus.METHOD_NOT_ALLOWED:
                raise
            told = AnnouncedFile()  # a broker from before there was such a way
        # It may say so of one that is too large, or too many of which are under way: the others go through it, too.
        self._is_there = told.file is not None or told.upload is not None
        return told


def _may_help(error: CallError) -> bool:
    return may_help_to_repeat(error) or (isinstance(error, ApiError) and error.status in _ASK_AGAIN)

"""The cache folder: images by digest, each downloaded once however many vms and launchers want it at a time."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from broker.client.session import Session
from launcher.durable import rename_durably
from launcher.images.download import Source, download
from launcher.images.errors import ImageUnavailable
from launcher.images.inspect import check_image

_LOCK_POLL_S = 0.2
_LOCK_WAIT_S = 3_600
"""Longest wait for somebody else's download of the same image."""


class ImageCache:
    """A folder of verified images, shared by the launchers that may write to it.

    `sha256-HEX` is a whole, verified, read-only image; `.part` a download that may be resumed; `.lock` is held by
    whoever downloads. An entry stays until somebody removes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder; what is in it may be read by every account of the node, because QEMU has one of its own.

        Raises:
            ImageUnavailable: the folder cannot be made.
        """
        try:
            if not self.folder.exists():
                self.folder.mkdir(parents=True)
                # Whatever the umask: a batch system's is often 077.
                self.folder.chmod(0o755)
        except OSError as error:
            raise ImageUnavailable(f"the image cache {self.folder} cannot be made: {error.strerror}") from error

    async def fetch(self, session: Session, source: Source) -> Path:
        """Return the path of the verified image, downloading it when nobody has yet.

        Every call has the image looked at as the format that its machine declares, some 30 ms: another machine may have
        brought the same bytes as another format.

        Raises:
            BadImage: its bytes or its header are refused; nothing new is kept.
            ImageUnavailable: it could not be had, or not be kept.
        """
        path = self.folder / source.digest.replace(":", "-")
        try:
            if not _is_whole(path, source):
                async with self._locked(path.with_suffix(".lock")):
                    if not _is_whole(path, source):
                        return await self._download(session, source, path)
        except OSError as error:
            raise ImageUnavailable(f"the image cache {self.folder} cannot be used: {error.strerror}") from error
        await check_image(path, source.format, source.digest)
        return path

    async def _download(self, session: Session, source: Source, path: Path) -> Path:
        part = path.with_suffix(".part")
        await download(session, source, part)
        try:
            await check_image(part, source.format, source.digest)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        part.chmod(0o444)
        await asyncio.to_thread(rename_durably, part, path)
        return path

    @asynccontextmanager
    async def _locked(self, lock: Path) -> AsyncIterator[None]:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            await self._wait_for(descriptor, lock)
            yield
        finally:
            os.close(descriptor)

    async def _wait_for(self, descriptor: int, lock: Path) -> None:
        # A polled lock, not a blocking one in a thread: a thread cannot be cancelled when the vm is.
        try:
            async with asyncio.timeout(_LOCK_WAIT_S):
                while not _try_lock(descriptor):  # noqa: ASYNC110 - the holder is another process: no event to wait for
                    await asyncio.sleep(_LOCK_POLL_S)
        except TimeoutError as error:
            raise ImageUnavailable(f"another launcher holds {lock.name} for more than {_LOCK_WAIT_S} s") from error


def _is_whole(path: Path, source: Source) -> bool:
    # A file of another size was damaged here; it stays in place, for vms that use it, until a whole one replaces it.
    try:
        return path.stat().st_size == source.size_bytes
    except FileNotFoundError:
        return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

"""Images by digest. A file under a digest's name exists only after its bytes were proved to have that digest."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from broker.files.folders import make_private
from broker.files.free_space import FreeSpace
from broker.files.incoming import clear_abandoned, receive, sync_folder
from broker.wire.names import Digest


class Images:
    """All images below one folder. Who may see one is not known here: the store keeps the grants."""

    def __init__(self, folder: Path, *, limit_bytes: int, space: FreeSpace) -> None:
        self._folder = folder / "images"
        self._incoming = folder / "incoming"
        self._limit_bytes = limit_bytes
        self._space = space
        for part in (self._folder, self._incoming):
            make_private(part)
        clear_abandoned(self._incoming)

    async def put(self, digest: Digest, chunks: AsyncIterator[bytes]) -> int:
        """Take an image in and return its size in bytes. One that is there already is read to the end all the same:
        sending the bytes is what proves that the sender has them.

        Raises:
            Rejected: `digest_mismatch` or `too_large`; nothing is kept.
            Unavailable: `store_disk_full`.
        """
        async with receive(
            self._incoming, chunks, limit_bytes=self._limit_bytes, expected=digest, space=self._space
        ) as received:
            await asyncio.to_thread(self._keep, digest, received.path)
            return received.size_bytes

    def location(self, digest: Digest) -> Path:
        """Return where the image is, when it is there."""
        name = digest.removeprefix("sha256:")
        return self._folder / name[:2] / name

    async def is_there(self, digest: Digest) -> bool:
        return await asyncio.to_thread(self.location(digest).is_file)

    def _keep(self, digest: Digest, received: Path) -> None:
        location = self.location(digest)
        if location.exists():
            return
        make_private(location.parent)
        received.chmod(0o400)
        received.rename(location)
        sync_folder(location.parent)

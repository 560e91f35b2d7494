"""Images by digest. A file under a digest's name exists only after its bytes were proved to have that digest."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path

from broker.files.durable import sync_folder
from broker.files.folders import make_private
from broker.files.free_space import FreeSpace
from broker.files.incoming import Received, clear_abandoned, receive
from broker.files.locks import locked
from broker.files.room import Admit
from broker.files.source import Source
from broker.wire.names import Digest, UserName

_SETTLE_S = 30.0
"""What is done while images settle takes milliseconds, and as long as one call of the store at most."""


class Arriving:
    """What one image that arrives takes of its user's room."""

    def __init__(self, of: Counter[UserName], user: UserName) -> None:
        self._of = of
        self._user = user
        self._size_bytes = 0

    def grow_to(self, size_bytes: int) -> None:
        self._of[self._user] += size_bytes - self._size_bytes
        self._size_bytes = size_bytes
        if not self._of[self._user]:
            del self._of[self._user]


class Images:
    """All images below one folder. Who may see one is not known here: the store keeps the grants.

    Bytes are kept and granted, or found to be nobody's and removed, as one step each: in `settling`. Before they are
    kept they must be noted as nobody's, so that they are found should the grant fail.
    """

    def __init__(self, folder: Path, *, limit_bytes: int, space: FreeSpace) -> None:
        self._folder = folder / "images"
        self._incoming = folder / "incoming"
        self._limit_bytes = limit_bytes
        self._space = space
        self._arriving: Counter[UserName] = Counter()
        for part in (self._folder, self._incoming):
            make_private(part)
        clear_abandoned(self._incoming)

    def received(self, digest: Digest, source: Source, admit: Admit) -> AbstractAsyncContextManager[Received]:
        """Take an image's bytes in for the block, and prove their digest; who wants them `keep`s them.

        One that is there already is read to the end all the same: sending the bytes is what proves that the sender
        has them. `admit` is told of bytes before they are written.

        Raises:
            Rejected: `digest_mismatch` or `too_large`; nothing is kept.
            Unavailable: `store_disk_full`.
        """
        return receive(
            self._incoming, source, limit_bytes=self._limit_bytes, expected=digest, space=self._space, admit=admit
        )

    @contextmanager
    def arriving(self, user: UserName) -> Iterator["Arriving"]:
        """Have the bytes of one image that arrives counted among all that do for the user, in this process."""
        arriving = Arriving(self._arriving, user)
        try:
            yield arriving
        finally:
            arriving.grow_to(0)

    def arriving_bytes(self, user: UserName) -> int:
        """Return how many bytes of the user's images arrive just now, other than by uploads in parts."""
        return self._arriving[user]

    def settling(self) -> AbstractAsyncContextManager[None]:
        """Return the lock under which images are kept and granted, or removed.

        Raises:
            Unavailable: at its entry, when others keep it too long.
        """
        return locked(self._folder, wait_s=_SETTLE_S)

    async def keep(self, digest: Digest, proved: Path) -> None:
        """Give a file, whose bytes were proved, its name as an image; `proved` stays for its owner to remove."""
        await asyncio.to_thread(self._keep, digest, proved)

    async def seal(self, digest: Digest) -> None:
        """Take away from everybody, the broker too, the right to write to an image that is granted."""
        await asyncio.to_thread(self.location(digest).chmod, 0o400)

    async def remove(self, digest: Digest) -> None:
        """Remove an image that nobody is granted; whoever reads it just now reads it to its end."""
        await asyncio.to_thread(self.location(digest).unlink, missing_ok=True)

    def location(self, digest: Digest) -> Path:
        """Return where the image is, when it is there."""
        name = digest.removeprefix("sha256:")
        return self._folder / name[:2] / name

    async def is_there(self, digest: Digest) -> bool:
        return await asyncio.to_thread(self.location(digest).is_file)

    def _keep(self, digest: Digest, proved: Path) -> None:
        location = self.location(digest)
        make_private(location.parent)
        with suppress(FileExistsError):
            location.hardlink_to(proved)
            sync_folder(location.parent)

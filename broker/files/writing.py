"""Writing a new file: hashed and written at once, past the page cache, while the next bytes come.

Of two blocks one is filled by the loop while two threads hash and write the other: neither waits for the other, and two
blocks are all that is held. Whole blocks are written past the page cache (O_DIRECT): what is to be durable before it is
answered would be copied there only to be waited for at the end, and one upload of many gigabytes would push out of it
what others read. The rest, which is no whole block, and so all of a small file, goes through it; so does everything
where the file system knows no other way. ADR 0024 says what was measured.
"""

import asyncio
import errno
import fcntl
import hashlib
import mmap
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

BLOCK_BYTES = 1_048_576
"""A multiple of what any disk or file system wants aligned that is written past the page cache."""


class Writing:
    """A new file, readable by nobody else, that grows by chunks; `close` it whatever comes.

    `check` is told how many bytes there will be, before they are written; what it raises ends this.
    """

    def __init__(self, path: Path, check: Callable[[int], Awaitable[None]]) -> None:
        self.size_bytes = 0
        self._check = check
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._hasher = hashlib.sha256()
        # Anonymous memory begins at a page, as such writes must.
        self._filling, self._passed_on = (memoryview(mmap.mmap(-1, BLOCK_BYTES)) for _ in range(2))
        self._filled_bytes = 0
        self._under_way: asyncio.Task[None] | None = None
        self._is_direct: bool | None = None
        # A cancelled await leaves its thread behind: it must not write once the file is closed.
        self._writing = threading.Lock()
        self._is_closed = False

    async def add(self, chunk: bytes) -> None:
        """Take a chunk of any size."""
        left = memoryview(chunk)
        while left:
            count = min(len(left), BLOCK_BYTES - self._filled_bytes)
            self._filling[self._filled_bytes : self._filled_bytes + count] = left[:count]
            self._filled_bytes += count
            left = left[count:]
            if self._filled_bytes == BLOCK_BYTES:
                await self._pass_on()

    async def finish(self) -> str:
        """Write the rest and make the file durable; return its SHA-256 in hexadecimal digits."""
        await self._settle()
        if self._filled_bytes:
            await self._check(self.size_bytes + self._filled_bytes)
        await asyncio.to_thread(self._finish, self._filling[: self._filled_bytes])
        self.size_bytes += self._filled_bytes
        return self._hasher.hexdigest()

    async def close(self) -> None:
        """Let go of the file, when nobody writes to it any more."""
        if self._under_way is not None and not self._under_way.cancel() and not self._under_way.cancelled():
            # What ends this is being raised already.
            self._under_way.exception()
        await asyncio.shield(asyncio.to_thread(self._close))

    async def _pass_on(self) -> None:
        await self._check(self.size_bytes + BLOCK_BYTES)
        await self._settle()
        self._filling, self._passed_on = self._passed_on, self._filling
        self._under_way = asyncio.create_task(self._keep(self._passed_on))
        self.size_bytes += BLOCK_BYTES
        self._filled_bytes = 0

    async def _settle(self) -> None:
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            await under_way

    async def _keep(self, block: memoryview) -> None:
        await asyncio.gather(asyncio.to_thread(self._hasher.update, block), asyncio.to_thread(self._write_block, block))

    def _write_block(self, block: memoryview) -> None:
        with self._writing:
            if self._is_closed:
                return
            if self._is_direct is None:
                self._is_direct = self._set_direct()
            try:
                self._write(block)
            except OSError as error:
                # A file system may learn only now that it cannot. Nothing of the block was counted: it is written anew.
                if error.errno != errno.EINVAL or not self._is_direct:
                    raise
                self._unset_direct()
                os.lseek(self._descriptor, self.size_bytes - len(block), os.SEEK_SET)
                self._write(block)

    def _finish(self, rest: memoryview) -> None:
        with self._writing:
            if self._is_closed:
                return
            if self._is_direct:
                self._unset_direct()
            self._hasher.update(rest)
            self._write(rest)
            os.fsync(self._descriptor)

    def _write(self, view: memoryview) -> None:
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _set_direct(self) -> bool:
        """Source: fcntl(2), F_SETFL; open(2), O_DIRECT."""
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        except OSError:
            return False
        return True

    def _unset_direct(self) -> None:
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        self._is_direct = False

    def _close(self) -> None:
        with self._writing:
            self._is_closed = True
            os.close(self._descriptor)

"""Uploads of images and files that come in parts: what arrived stays, through cut connections and restarts.

An upload is a record and a file that grows. The id of one that may be gone on with is made of its user, digest and
size, so that whoever begins the same again finds it. One request at a time may grow it, by a lock on the file, which
other processes respect too. How far it came is the file's size; that it is right is proved by its digest, at the end.
The hash follows the bytes, piece by piece, so that little is left to read when the last one came. A process remembers
how far it hashed: in another one, or after a restart, the hash catches up, a bounded time a request.

A file may come as several uploads at once, its parts, which are joined at the end.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

import msgspec

from broker.domain.errors import Conflict, Rejected, Unavailable
from broker.files.durable import sync_folder
from broker.files.folders import make_private
from broker.files.free_space import FreeSpace
from broker.files.joining import joined
from broker.files.locks import held, lock_at_once
from broker.files.upload import Hashed, Purpose, Record, Upload
from broker.files.upload_folder import Standing, UploadFolder
from broker.wire.names import Digest, UserName
from broker.wire.problems import ProblemCode

ABANDONED_S = 86_400
_JOINS_AT_ONCE = 2
"""Each keeps one of the process's few threads for as long as it takes to copy a file, and others need them, too."""
_JOIN_WAIT_S = 20.0
_MOST_HASHED = 1_000
"""So many uploads' hashes are remembered, those that came last: some that others finished are among them."""


class Wanted(NamedTuple):
    """What an upload is begun for; `file` is its `USER/PATH`, where it is to be one."""

    digest: Digest
    size_bytes: int
    purpose: Purpose = Purpose.IMAGE
    file: str = ""
    is_create_only: bool = False

    def record(self, user: UserName) -> Record:
        return Record(
            user,
            self.digest,
            self.size_bytes,
            begun=token_hex(8),
            purpose=self.purpose,
            file=self.file,
            is_create_only=self.is_create_only,
        )


class Uploads:
    """All uploads below one folder, each its user's own."""

    def __init__(self, folder: Path, *, limit_bytes: int, most_open: int, space: FreeSpace) -> None:
        self._folder = folder / "uploads"
        self._limit_bytes = limit_bytes
        self._most_open = most_open
        self._space = space
        self._hashed: dict[Path, Hashed] = {}
        self._joining = asyncio.Semaphore(_JOINS_AT_ONCE)
        self._kept = UploadFolder(self._folder)

    async def begin(
        self,
        user: UserName,
        wanted: Wanted,
        *,
        resume: bool,
        check_room: Callable[[int], None] = lambda _: None,
    ) -> Standing:
        """Begin an upload; with `resume`, or return the user's that was begun so and wants the same.

        `check_room` is told what all unfinished uploads of the user will have with this one; what it raises is raised.

        Raises:
            Rejected: `too_large`.
            Conflict: `too_many_uploads`.
            Unavailable: `store_disk_full`.
        """
        if wanted.size_bytes > self._limit_bytes:
            raise Rejected(ProblemCode.TOO_LARGE, f"one upload has at most {self._limit_bytes} bytes")
        record = wanted.record(user)
        upload = lasting_id(record) if resume else token_hex(16)
        return await asyncio.to_thread(self._begin, user, record, upload, check_room)

    async def join(self, user: UserName, wanted: Wanted, parts: Sequence[str]) -> Standing:
        """Put a complete upload together of complete parts, in their order, which go; or return the one that is there.

        Its size is theirs: `wanted` has none.

        Raises:
            Rejected: `not_found`: a part is not there, or no part.
            Conflict: `offset_differs`: a part is not complete; `upload_busy`: a request has a part.
            Unavailable: `store_disk_full`; `upload_busy`: others are being joined.
        """
        record = wanted.record(user)
        try:
            async with asyncio.timeout(_JOIN_WAIT_S):
                await self._joining.acquire()
        except TimeoutError as error:
            raise Unavailable(
                ProblemCode.UPLOAD_BUSY, "other files are being joined just now: send the same again", retry_after_s=5
            ) from error
        try:
            return await asyncio.to_thread(self._join, user, record, lasting_id(record, "joined"), parts)
        finally:
            self._joining.release()

    async def find(self, user: UserName, upload: str) -> Standing:
        """Return how far an upload came.

        Raises:
            Rejected: `not_found`.
        """
        standing = await asyncio.to_thread(self._kept.standing, user, upload)
        if standing is None:
            raise _no_upload(upload)
        return standing

    async def begun(self, user: UserName, wanted: Wanted) -> Standing | None:
        """Return the upload that `begin` would go on with, or that it would tell of as finished; None: a new one."""
        return await asyncio.to_thread(self._kept.standing, user, lasting_id(wanted.record(user)))

    async def unfinished(self, user: UserName) -> list[Standing]:
        """Return the user's uploads that are not finished."""
        return await asyncio.to_thread(lambda: list(self._kept.unfinished(user)))

    @asynccontextmanager
    async def taken(self, user: UserName, upload: str) -> AsyncIterator[Upload]:
        """Have an unfinished upload for oneself.

        Raises:
            Rejected: `not_found`.
            Conflict: `upload_busy`: another request has it, or just finished it.
        """
        if await asyncio.to_thread(self._kept.read, user, upload) is None:
            raise _no_upload(upload)
        taken = self._take(user, upload)
        try:
            yield taken
        finally:
            await asyncio.shield(asyncio.to_thread(taken.close))

    async def finish(self, user: UserName, upload: str) -> None:
        """Note that an upload's bytes are an image now. For whoever has it taken."""
        await asyncio.to_thread(self._finish, user, upload)

    async def remove(self, user: UserName, upload: str) -> None:
        """Remove an upload and its bytes.

        Raises:
            Rejected: `not_found`.
            Conflict: `upload_busy`.
        """
        standing = await self.find(user, upload)
        if standing.is_finished:
            await self.discard(user, upload)
            return
        async with self.taken(user, upload):
            await self.discard(user, upload)

    async def discard(self, user: UserName, upload: str) -> None:
        """Remove an upload and its bytes. For whoever has it taken."""
        await asyncio.to_thread(self._discard, user, upload)

    async def clear_abandoned(self) -> int:
        """Remove what got no byte for a day, and the records of what was finished then; tell how many."""
        removed = 0
        for user, upload in await asyncio.to_thread(lambda: list(self._kept.old(ABANDONED_S))):
            try:
                await self.remove(user, upload)
                removed += 1
            except (Rejected, Conflict):
                continue  # somebody goes on with it, or removed it, just now
        await asyncio.to_thread(self._kept.clear_leftovers, ABANDONED_S)
        return removed

    def _begin(self, user: UserName, record: Record, upload: str, check_room: Callable[[int], None]) -> Standing:
        """Begin it when there is room for it, beside all that was announced before and did not come yet."""
        with held(self._folder):
            known = self._kept.standing(user, upload)
            if known is not None:
                return known
            unfinished = list(self._kept.unfinished(user))
            if len(unfinished) >= self._most_open:
                raise _too_many(user, self._most_open)
            check_room(record.size_bytes + sum(each.size_bytes for each in unfinished))
            self._space.check(record.size_bytes + self._kept.announced_bytes())
            make_private(self._folder / user)
            part = self._kept.part(user, upload)
            part.unlink(missing_ok=True)  # left by who died when its record was gone; it may be a file's bytes, too
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            self._kept.write(user, upload, record)
        return Standing.of(upload, record, 0)

    def _join(self, user: UserName, record: Record, upload: str, parts: Sequence[str]) -> Standing:
        known = self._kept.standing(user, upload)
        if known is not None and known.offset_bytes == known.size_bytes:
            self._drop_parts(user, parts)
            return known
        with ExitStack() as locks:
            paths = [self._locked_part(user, part, locks) for part in parts]
            record = msgspec.structs.replace(record, size_bytes=sum(path.stat().st_size for path in paths))
            self._space.check(record.size_bytes)
            beside = self._kept.part(user, upload).with_suffix(f".{record.begun}")
            try:
                hashed = joined(paths, beside, record.begun)
                with held(self._folder):
                    beside.replace(self._kept.part(user, upload))
                    self._kept.write(user, upload, record)
            finally:
                beside.unlink(missing_ok=True)
            self._hashed[self._kept.part(user, upload)] = hashed
            for part in parts:
                self._discard(user, part)  # while they are locked
        return Standing.of(upload, record, record.size_bytes)

    def _drop_parts(self, user: UserName, parts: Sequence[str]) -> None:
        """Remove parts that were sent once more, but for those that a request has."""
        for part in parts:
            standing = self._kept.standing(user, part)
            if standing is not None and standing.purpose is Purpose.PART:
                with suppress(Conflict), ExitStack() as locks:
                    locks.callback(os.close, _lock(self._kept.part(user, part)))
                    self._discard(user, part)

    def _locked_part(self, user: UserName, part: str, locks: ExitStack) -> Path:
        """Lock a complete part for as long as the stack lasts."""
        standing = self._kept.standing(user, part)
        if standing is None or standing.purpose is not Purpose.PART:
            raise Rejected(ProblemCode.NOT_FOUND, f"{part[:64]!r} is no part of yours: begin it with Upload-Concat")
        path = self._kept.part(user, part)
        locks.callback(os.close, _lock(path))
        if path.stat().st_size != standing.size_bytes:
            raise Conflict(ProblemCode.OFFSET_DIFFERS, f"the part {part} is not complete: ask for its offset, go on")
        return path

    def _take(self, user: UserName, upload: str) -> Upload:
        """Take an upload, at once: a lock that a thread took for a request that is gone would be nobody's."""
        path = self._kept.part(user, upload)
        descriptor = _lock(path)
        # Read by whoever has it: until then it may have been removed, and begun anew.
        record = self._kept.read(user, upload)
        if record is None:
            os.close(descriptor)
            raise _no_upload(upload)
        hashed = self._hashed.pop(path, None)
        if hashed is None or hashed.begun != record.begun:
            hashed = Hashed(record.begun)
        self._hashed[path] = hashed
        if len(self._hashed) > _MOST_HASHED:
            self._hashed.pop(next(iter(self._hashed)), None)
        return Upload(record, path, descriptor, hashed, self._space)

    def _finish(self, user: UserName, upload: str) -> None:
        with held(self._folder):
            record = self._kept.read(user, upload)
            assert record is not None, "an upload that is taken is there"
            self._kept.write(user, upload, msgspec.structs.replace(record, is_finished=True))
            self._forget(user, upload)

    def _discard(self, user: UserName, upload: str) -> None:
        with held(self._folder):
            self._kept.record(user, upload).unlink(missing_ok=True)
            self._forget(user, upload)

    def _forget(self, user: UserName, upload: str) -> None:
        part = self._kept.part(user, upload)
        part.unlink(missing_ok=True)
        self._hashed.pop(part, None)
        sync_folder(part.parent)


def lasting_id(record: Record, how: str = "") -> str:
    """Return the id of an upload that whoever begins the same again is to find."""
    named = f"{record.user}\0{record.digest}\0{record.size_bytes}"
    if record.purpose is not Purpose.IMAGE:
        named += f"\0{record.purpose}\0{record.file}\0{record.is_create_only}\0{how}"
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def _lock(path: Path) -> int:
    try:
        descriptor = lock_at_once(path, os.O_RDONLY)
    except FileNotFoundError:
        descriptor = None
    if descriptor is None:
        raise Conflict(
            ProblemCode.UPLOAD_BUSY,
            "another request has this upload, and lets go of it within a minute without a byte: ask for its offset "
            "in a moment, and go on from there",
        )
    return descriptor


def _no_upload(upload: str) -> Rejected:
    return Rejected(ProblemCode.NOT_FOUND, f"there is no upload {upload[:64]!r} of yours: begin it with a POST")


def _too_many(user: UserName, most_open: int) -> Conflict:
    return Conflict(
        ProblemCode.TOO_MANY_UPLOADS,
        f"{user} has {most_open} unfinished uploads, as many as may be: finish or DELETE one of /v1/uploads; one that "
        "gets no byte for a day is removed",
    )

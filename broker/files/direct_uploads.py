"""Uploads straight into S3, of which not a byte passes here.

One is announced with its size and digest, takes its room, and is given an object that only these very bytes can be
written to. It makes a file when S3, asked by whoever looks for that file next, tells of an object of that size and
digest. One that never came is dropped long after the last address that was signed for it.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from broker.domain.paths import FilePath, split_path
from broker.files.folders import make_private
from broker.files.objects import Facts, ObjectName, Objects
from broker.files.pending import Note, Pending
from broker.files.records import RECORD_BYTES, Record, Records, object_of
from broker.files.room import Counting, Room, changing, to_its_end
from broker.wire.names import UserName

MAX_DIRECT_BYTES = 5 * 1024**3
"""What S3 takes in one PUT. Source: "Uploading objects", Amazon S3 User Guide."""
MOST_A_PATH = 16
"""Uploads to one path that may be under way: whoever looks for the file asks after each of them."""
_SETTLED_AT_ONCE = 16


class Home(Objects, Protocol):
    """A home of objects to which others write, too."""

    async def find(self, name: ObjectName) -> Facts | None:
        """Return what the home itself verified of an object; None when it is not there.

        Raises:
            Unavailable: it does not tell.
        """

    def listed(self) -> AsyncIterator[list[ObjectName]]:
        """Yield pages of objects that are older than a day.

        Raises:
            Unavailable: it does not tell.
        """


class DirectUploads:
    """What is under way to the home, and what is there that nobody names."""

    def __init__(self, records: Records, pending: Pending, home: Home, counting: Counting) -> None:
        self._records = records
        self._pending = pending
        self._home = home
        self._counting = counting

    @staticmethod
    def takes(size_bytes: int) -> bool:
        """Tell whether a file may come this way; a larger one has to go through the broker."""
        return 0 <= size_bytes <= MAX_DIRECT_BYTES

    async def announce(self, path: FilePath, facts: Facts, *, create_only: bool) -> ObjectName | None:
        """Return the object to write, the same for the same bytes until it is there; None: too many are under way.

        Raises:
            Rejected: `quota_exceeded`.
        """
        folder = self._records.folder_of(path.user)
        await asyncio.to_thread(make_private, folder)
        note = await asyncio.to_thread(self._sign, path, facts, create_only)
        if note is None:
            async with changing(self._counting, path.user, folder) as room:
                await room.grow_to(RECORD_BYTES + facts.size_bytes)
                note = await to_its_end(asyncio.to_thread(self._add, path, facts, create_only, room))
        return None if note is None else object_of(path, note.object_id)

    async def settle(self, path: FilePath) -> None:
        """Make a file of what came; drop what can come no more.

        Raises:
            Unavailable: the home does not tell.
        """
        if not await asyncio.to_thread(self._pending.is_noted, path):
            return
        for note in await asyncio.to_thread(self._pending.of_path, path):
            found = await self._home.find(object_of(path, note.object_id))
            if found is not None:
                await self._came(path, note, found)
            elif await asyncio.to_thread(self._pending.is_abandoned, path, note):
                await self._drop(path, note)

    async def settle_user(self, user: UserName) -> None:
        """Settle all of a user's uploads, before their files are listed.

        Raises:
            Unavailable: the home does not tell.
        """
        gate = asyncio.Semaphore(_SETTLED_AT_ONCE)

        async def one(path: FilePath) -> None:
            async with gate:
                await self.settle(path)

        notes = await asyncio.to_thread(lambda: list(self._pending.of_user(user)))
        paths = {FilePath(user, split_path(note.path)) for note in notes}
        for outcome in await asyncio.gather(*map(one, paths), return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def noted(self, paths: Iterable[FilePath]) -> list[FilePath]:
        """Return those of the paths to which something may be under way."""
        return await asyncio.to_thread(lambda: [path for path in paths if self._pending.is_noted(path)])

    async def sweep(self) -> int:
        """Settle everybody's uploads, and remove objects that nobody names; return how many those were.

        Raises:
            Unavailable: the home does not tell.
        """
        for user in await asyncio.to_thread(self._pending.users):
            await self.settle_user(user)
        removed = 0
        async for page in self._home.listed():
            for name in await asyncio.to_thread(self._nobodys, page):
                await self._home.remove(name)
                removed += 1
        return removed

    def _nobodys(self, names: list[ObjectName]) -> list[ObjectName]:
        return [name for name in names if not (self._pending.names(name) or self._records.names(name))]

    async def _came(self, path: FilePath, note: Note, found: Facts) -> None:
        async with changing(self._counting, path.user, self._records.folder_of(path.user)) as room:
            gone = await to_its_end(asyncio.to_thread(self._adopt, path, note, found, room))
        for object_id in gone:
            await self._home.remove(object_of(path, object_id))

    async def _drop(self, path: FilePath, note: Note) -> None:
        async with changing(self._counting, path.user, self._records.folder_of(path.user)) as room:
            is_dropped = await to_its_end(asyncio.to_thread(self._forget, path, note, room))
        if is_dropped:
            await self._home.remove(object_of(path, note.object_id))

    def _sign(self, path: FilePath, facts: Facts, create_only: bool) -> Note | None:
        with self._records.lock(path):
            note = self._pending.sign(path, facts.digest)
            # Who now asks for more than who asked before is heard: the note is written anew.
            if note is not None and (note.create_only, note.size_bytes) != (create_only, facts.size_bytes):
                return None
            return note

    def _add(self, path: FilePath, facts: Facts, create_only: bool, room: Room) -> Note | None:
        with self._records.lock(path):
            old = self._pending.sign(path, facts.digest)
            if old is None and len(self._pending.of_path(path)) >= MOST_A_PATH:
                return None
            # With another size one of the two is no upload of that digest, and its object will not be taken.
            object_id = secrets.token_hex(16) if old is None else old.object_id
            note = Note(path.path, object_id, facts.size_bytes, facts.digest, create_only)
            self._pending.add(path, note)
            room.kept_bytes = note.room_bytes - (0 if old is None else old.room_bytes)
            return note

    def _adopt(self, path: FilePath, note: Note, found: Facts, room: Room) -> list[str]:
        """Make the record of what came; return the objects that nobody names then."""
        with self._records.lock(path):
            if not self._pending.has(path, note):
                return []  # somebody else was quicker
            old = self._records.read(path)
            record = Record.of(path, note.object_id, found)
            is_whole = (found.size_bytes, found.digest) == (note.size_bytes, note.digest)
            is_kept = is_whole and (old is None or not (note.create_only or old.digest == note.digest))
            if is_kept:
                self._records.write(path, record)
                room.kept_bytes = -(0 if old is None else old.room_bytes)
            else:
                room.kept_bytes = -note.room_bytes
            self._pending.remove(path, note)
            if is_kept:
                return [] if old is None else [old.object_id]
            # After a crash the record may be there already, while the note is still, too.
            return [] if old is not None and old.object_id == note.object_id else [note.object_id]

    def _forget(self, path: FilePath, note: Note, room: Room) -> bool:
        with self._records.lock(path):
            if not (self._pending.has(path, note) and self._pending.is_abandoned(path, note)):
                return False
            self._pending.remove(path, note)
            room.kept_bytes = -note.room_bytes
            return True

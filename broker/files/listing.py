"""What files there are: a folder's page of names, made of the records themselves.

A store of records has no folders: one is there while a file lies below it. There is no index that could differ from
the records: a listing looks at them. What was read of one of a user's record folders is remembered with the time at
which that folder last changed, which every rename into it and every removal moves, whichever process does it; so a
listing reads anew what changed and nothing else. A folder that changed just before it was read is not trusted: a clock
tick may hide a further change.
"""

import asyncio
import heapq
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec

from broker.domain.errors import Rejected
from broker.files.records import Record
from broker.wire.names import UserName
from broker.wire.problems import ProblemCode

MOST_LISTED = 1_000_000
"""Records of one user that a listing looks at; as many as are counted."""
_MOST_REMEMBERED = 200_000
"""Records of all users that one process remembers: some 100 MB."""
_SETTLED_S = 2.0
_AT_ONCE = 2
"""One that reads all anew keeps one of the process's few threads for as long, and others need them, too."""


class Entry(NamedTuple):
    """A file, or a folder, of which `size_bytes` and `digest` are None. `name` is below the folder that is listed."""

    name: str
    size_bytes: int | None
    digest: str | None
    modified_s: float


class Page(NamedTuple):
    """Some entries in the order of their names; `has_more` when others come after them."""

    entries: list[Entry]
    has_more: bool


class _Kept(NamedTuple):
    path: str
    size_bytes: int
    digest: str
    modified_s: float


class _Seen(NamedTuple):
    changed_ns: int
    kept: tuple[_Kept, ...]


class Listings:
    """Listings of the files whose records lie below one folder."""

    def __init__(self, records: Path) -> None:
        self._records = records
        self._seen: dict[Path, _Seen] = {}
        self._remembered = 0
        self._remembering = threading.Lock()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._turns: WeakValueDictionary[UserName, asyncio.Lock] = WeakValueDictionary()

    async def page(self, user: UserName, folder: str, *, after: str, most: int, is_deep: bool) -> Page:
        """Return at most `most` entries of a folder ('' or 'a/b/') whose names come after `after`.

        `is_deep`: every file below, however deep, and no folders.

        Of one user's files there is one listing at a time, so that others do not wait for those who have many.

        Raises:
            Rejected: `quota_exceeded`: the user has more files than are looked through.
        """
        turn = self._turns.setdefault(user, asyncio.Lock())
        async with turn, self._places:
            return await asyncio.to_thread(self._page, user, folder, after, most, is_deep)

    def _page(self, user: UserName, folder: str, after: str, most: int, is_deep: bool) -> Page:
        below = _files_below(self._all(user), folder) if is_deep else _children(self._all(user), folder)
        found = heapq.nsmallest(most + 1, (each for each in below if each.name > after), key=lambda each: each.name)
        return Page(found[:most], len(found) > most)

    def _all(self, user: UserName) -> Iterator[_Kept]:
        count = 0
        for part in sorted((self._records / user).glob("[0-9a-f][0-9a-f]")):
            kept = self._read(part)
            count += len(kept)
            if count > MOST_LISTED:
                raise Rejected(
                    ProblemCode.QUOTA_EXCEEDED,
                    f"{user} has more than {MOST_LISTED} files, and so many are not listed: remove some, or ask for "
                    "each by its name",
                )
            yield from kept

    def _read(self, part: Path) -> tuple[_Kept, ...]:
        try:
            changed_ns = part.stat().st_mtime_ns
        except FileNotFoundError:
            return ()
        seen = self._seen.get(part)
        if seen is not None and seen.changed_ns == changed_ns:
            return seen.kept
        is_settled = time.time_ns() - changed_ns > _SETTLED_S * 1e9
        kept = tuple(_kept_in(part))
        self._remember(part, _Seen(changed_ns, kept) if is_settled else None)
        return kept

    def _remember(self, part: Path, seen: _Seen | None) -> None:
        with self._remembering:
            old = self._seen.pop(part, None)
            self._remembered -= 0 if old is None else len(old.kept)
            if seen is None:
                return
            self._seen[part] = seen
            self._remembered += len(seen.kept)
            while self._remembered > _MOST_REMEMBERED:
                self._remembered -= len(self._seen.pop(next(iter(self._seen))).kept)


def _kept_in(part: Path) -> Iterator[_Kept]:
    for path in part.glob("*.json"):
        try:
            modified_s = path.stat().st_mtime
            record = msgspec.json.decode(path.read_bytes(), type=Record)
        except FileNotFoundError:
            continue  # removed just now
        yield _Kept(record.path, record.size_bytes, record.digest, modified_s)


def _files_below(kept: Iterable[_Kept], folder: str) -> Iterator[Entry]:
    for each in kept:
        if each.path.startswith(folder):
            yield Entry(each.path[len(folder) :], each.size_bytes, each.digest, each.modified_s)


def _children(kept: Iterable[_Kept], folder: str) -> Iterator[Entry]:
    """Yield the files directly in a folder, and each folder directly in it once, with the time of its newest file."""
    folders: dict[str, float] = {}
    for each in _files_below(kept, folder):
        name, slash, _ = each.name.partition("/")
        if slash:
            folders[name] = max(folders.get(name, 0.0), each.modified_s)
        else:
            yield each
    for name, modified_s in folders.items():
        yield Entry(f"{name}/", None, None, modified_s)

"""Push items, look at them, list them."""

import re
from collections.abc import Sequence

from broker.domain.errors import Conflict, Rejected
from broker.domain.limits import LIMITS
from broker.domain.quotas import owed_too_much, quota_exceeded
from broker.store.arguments import Push
from broker.store.keys import StreamKeys
from broker.store.reading import Reading
from broker.store.records import Hash, encode_items
from broker.store.scripts import Word
from broker.wire.items import ItemPage, ItemView, NewItem, Pushed
from broker.wire.names import ItemRef, StreamRef
from broker.wire.problems import ProblemCode
from broker.wire.states import ItemState

_SCAN_PAGES = 10
"""A page looked for by number reads at most so many times its size; a short page with a cursor says: go on."""

_LOOKED_THROUGH = 20
"""Entries of the ready list that are looked at for one that is not stale."""
_QUOTAS = {
    "items": "items that are kept",
    "bytes": "bytes of URLs, names, parameters and inputs of items that are kept",
}
_CURSOR = re.compile(r"([0-9]{1,15})-([0-9]{1,15})")


class SpecChanged(Exception):
    """What was decided by a stream's spec was by an earlier revision of it."""


class Items(Reading):
    async def push(
        self,
        ref: StreamRef,
        items: Sequence[NewItem],
        *,
        idempotency_key: str | None,
        body_digest: str,
        revision: int | None = None,
    ) -> Pushed:
        """Add items to a stream, all or none, and keep them as durably as the answer's `durability` says.

        With a key it may be repeated for a day: the same key and body get the first answer.
        `revision`: of the stream's spec by which the items were looked at.

        Raises:
            SpecChanged: the stream's spec has another revision by now: look at the items again.
            Rejected: too many items, no such stream (NOT_FOUND), the key came with another body (KEY_REUSED), or the
                user would have more than they may (QUOTA_EXCEEDED).
            Conflict: PURGING.
            Unavailable: try again with the same key; without one, items may be pushed twice. STORE_DISK_FULL: the disk
                is so full that nothing more is taken in.
        """
        limit = LIMITS["push_items"]
        if not 0 < len(items) <= limit.default:
            raise Rejected(limit.problem, f"push 1 to {limit.default} items in one request; these are {len(items)}")
        self._server.check_disk()
        width, values = encode_items(items)
        reply = await self._server.act(
            Push(
                user=ref.user,
                job=ref.name,
                keyed=idempotency_key is not None,
                digest=body_digest,
                most_items=LIMITS["user_items"].default,
                most_bytes=LIMITS["user_bytes"].default,
                most_owed=LIMITS["callbacks_waiting"].default,
                size=len(items),
                width=width,
                revision=revision or 0,
                rest=values,
            ),
            self._keys.of_stream(ref),
            push_key=self._keys.push_key(ref, idempotency_key or ""),
        )
        match reply.word:
            case Word.CHANGED:
                raise SpecChanged
            case Word.MISSING:
                raise no_stream(ref)
            case Word.REUSED:
                raise _reused()
            case Word.PURGING:
                raise purging(ref)
            case Word.FULL:
                what, bound = reply.values
                if what == "callbacks":
                    raise owed_too_much(ref.user, int(bound))
                raise quota_exceeded(
                    f"with these {ref.user} would have more than {bound} {_QUOTAS[what]}: nothing was accepted; purge "
                    "a stream, shorten its keep, or ask who runs the broker for more"
                )
        first, last, duplicates = (int(value) for value in reply.values)
        return self._pushed(ref, first, last, duplicates, repeated=reply.word == Word.REPEATED)

    async def first_answer(self, ref: StreamRef, idempotency_key: str, body_digest: str) -> Pushed | None:
        """Return what a push with this key was answered, or None when there was none: then push.

        Raises:
            Rejected: the key came with another body (KEY_REUSED).
        """
        known, born = await self._server.commands(
            [
                ("GET", self._keys.push_key(ref, idempotency_key)),
                ("HGET", self._keys.of_stream(ref).stream, "born"),
            ]
        )
        if known is None:
            return None
        # An older broker noted neither how many names were there nor of which stream of that name it was.
        known_digest, first, last, duplicates, of = [*known.split(" "), "0", born][:5]
        if of != (born or ""):
            return None
        if known_digest != body_digest:
            raise _reused()
        return self._pushed(ref, int(first), int(last), int(duplicates), repeated=True)

    async def get_item(self, ref: ItemRef) -> ItemView | None:
        """Return an item with its last vm, or None when there is none."""
        item = await self._item(ref)
        return (await self._views([(ref, item)]))[0] if item else None

    async def next_number(self, ref: StreamRef) -> ItemRef | None:
        """Return the ready item that comes next, else the delayed one that becomes ready next; None without either."""
        keys = self._keys.of_stream(ref)
        lanes, delayed = await self._server.commands([("ZRANGE", keys.ready, 0, 0), ("ZRANGE", keys.delayed, 0, 0)])
        if lanes:
            for entry in await self._server.command("LRANGE", f"{keys.ready_of}{lanes[0]}", 0, _LOOKED_THROUGH - 1):
                number, gen, _ = entry.split(":")
                item = ItemRef(ref, int(number))
                state, now = await self._server.command("HMGET", self._keys.item(item), "state", "gen")
                if state == ItemState.READY and (now or "0") == gen:
                    return item
        return ItemRef(ref, int(delayed[0])) if delayed else None

    async def list_items(self, ref: StreamRef, state: ItemState | None, cursor: str | None, limit: int) -> ItemPage:
        """Return a page of a stream's items; pass `next_cursor` for the next one, until there is none.

        All items and ready ones come by number; those of another state by the time at which they came into it, so
        that a listing which goes on while items settle misses none. An item that moves meanwhile may come twice.
        A page may be shorter than `limit`, even empty, and yet have a next one.

        Raises:
            Rejected: the limit or cursor is not valid, or there is no such stream.
        """
        bound = LIMITS["page_items"]
        if not 0 < limit <= bound.default:
            raise Rejected(bound.problem, f"ask for 1 to {bound.default} items in one page, not {limit}")
        keys = self._keys.of_stream(ref)
        last = await self._server.command("HMGET", keys.stream, "revision", "last", "gone")
        if last[0] is None:
            raise no_stream(ref)
        if state in {None, ItemState.READY}:
            after = max(_position(cursor)[1], int(last[2] or 0))
            return await self._page_by_number(ref, state, after, int(last[1] or 0), limit)
        assert state is not None
        return await self._page_by_time(ref, keys, state, _position(cursor), limit)

    def _pushed(self, ref: StreamRef, first: int, last: int, duplicates: int, *, repeated: bool) -> Pushed:
        return Pushed(
            stream=str(ref),
            accepted=last - first + 1,
            first=first,
            last=last,
            duplicates=duplicates,
            durability=self._server.durability,
            repeated=repeated,
        )

    async def _page_by_number(
        self, ref: StreamRef, state: ItemState | None, after: int, last: int, limit: int
    ) -> ItemPage:
        found: list[tuple[ItemRef, Hash]] = []
        for _ in range(_SCAN_PAGES):
            refs = [ItemRef(ref, number) for number in range(after + 1, min(after + limit, last) + 1)]
            for each, item in await self._read(refs):
                if len(found) == limit:
                    break
                after = each.number
                if item and state in {None, item["state"]}:
                    found.append((each, item))
            if len(found) == limit or after >= last:
                break
        return ItemPage(items=await self._views(found), next_cursor=f"0-{after}" if after < last else None)

    async def _page_by_time(
        self, ref: StreamRef, keys: StreamKeys, state: ItemState, position: tuple[int, int], limit: int
    ) -> ItemPage:
        key = getattr(keys, state.value)
        start = await self._rank_after(key, *position)
        flat = await self._server.command("ZRANGE", key, start, start + limit - 1, "WITHSCORES")
        refs = [ItemRef(ref, int(number)) for number in flat[::2]]
        found = [(each, item) for each, item in await self._read(refs) if item and item["state"] == state]
        cursor = f"{int(float(flat[-1]))}-{flat[-2]}" if len(refs) == limit else None
        return ItemPage(items=await self._views(found), next_cursor=cursor)

    async def _rank_after(self, key: str, score: int, number: int) -> int:
        """Return the rank after a position; when its item has moved, the rank of the first with its time."""
        if not score and not number:
            return 0
        now, rank, earlier = await self._server.commands(
            [("ZSCORE", key, number), ("ZRANK", key, number), ("ZCOUNT", key, "-inf", f"({score}")], atomic=True
        )
        return int(rank) + 1 if now is not None and int(float(now)) == score else int(earlier)

    async def _read(self, refs: list[ItemRef]) -> list[tuple[ItemRef, Hash]]:
        records = await self._server.commands([("HGETALL", self._keys.item(each)) for each in refs])
        return list(zip(refs, records, strict=True))


def purging(ref: StreamRef) -> Conflict:
    return Conflict(ProblemCode.PURGING, f"{ref} is being removed with all its items: wait until it is gone")


def no_stream(ref: StreamRef) -> Rejected:
    return Rejected(ProblemCode.NOT_FOUND, f"there is no stream {ref}: add it first")


def no_item(ref: ItemRef) -> Rejected:
    return Rejected(
        ProblemCode.NOT_FOUND,
        f"there is no item {ref}, or it is no longer kept: `broker status {ref.stream}` counts them",
    )


def _reused() -> Rejected:
    return Rejected(
        ProblemCode.KEY_REUSED, "this idempotency key was used for other items: use a new key for each push"
    )


def _position(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return 0, 0
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise Rejected(ProblemCode.BAD_REQUEST, f"{cursor[:64]!r} is no cursor: pass next_cursor of the page before")
    return int(match[1]), int(match[2])

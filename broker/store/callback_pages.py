"""What became of callbacks, for people: listed, and told once more."""

import re
from collections.abc import Sequence

from broker.domain.errors import Rejected
from broker.domain.limits import LIMITS
from broker.store import arguments
from broker.store.callbacks import ENTRY_PATTERN, Callbacks, Entry, callback_event
from broker.store.records import Hash, rfc3339
from broker.store.scripts import Word
from broker.wire.callbacks import CallbackPage, CallbackState, CallbackView, webhook_id
from broker.wire.names import StreamRef, UserName
from broker.wire.problems import ProblemCode

_ID = re.compile(r"evt_[0-9a-f]{32}")
_CURSOR = re.compile(rf"(?:([0-9]{{1,16}}):)?({ENTRY_PATTERN})")
_LOOKED_AT = 1_000
"""Of callbacks without an attempt, which no index has, so many are looked at for one that is to be replayed."""


class CallbackPages(Callbacks):
    async def list_callbacks(
        self, user: UserName, state: CallbackState | None, cursor: str | None, limit: int
    ) -> CallbackPage:
        """Return a page of a user's callbacks; pass `next_cursor` for the next one, until there is none.

        The latest event first; of one state the last that came into it, of those that wait the one that is due next.
        One that changes its state meanwhile may be on two pages, or on none.

        Raises:
            Rejected: the limit or cursor is not valid.
        """
        most = LIMITS["page_items"]
        if not 0 < limit <= most.default:
            raise Rejected(most.problem, f"ask for 1 to {most.default} callbacks at a time, not {limit}")
        place = None if cursor is None else _CURSOR.fullmatch(cursor)
        if cursor is not None and place is None:
            raise Rejected(
                ProblemCode.BAD_REQUEST, f"{cursor[:64]!r} is no cursor: pass next_cursor of the page before"
            )
        if state is None:
            entries, next_cursor = await self._latest(user, place, limit)
        else:
            entries, next_cursor = await self._of_state(user, state, place, limit)
        counts = await self._server.commands([("ZCARD", self._list_of(user, each)) for each in CallbackState])
        dropped = await self._server.command("HGET", self._keys.account(user), "callbacks_dropped")
        return CallbackPage(
            callbacks=await self._callback_views(user, entries),
            next_cursor=next_cursor,
            counts={
                **{each.value: count for each, count in zip(CallbackState, counts, strict=True)},
                "dropped": int(dropped or 0),
            },
        )

    async def replay_callback(self, user: UserName, callback: str) -> CallbackView:
        """Tell it once more, from the first attempt on, whatever became of it; return how it is then.

        Raises:
            Rejected: `not_found`: it is kept no more, or waits for its first attempt behind many others.
        """
        entry = await self._entry_of(user, callback)
        word = Word.MISSING
        if entry is not None:
            reply = await self._server.act(
                arguments.ReplayCallback(user=user, entry=entry),
                None,
                owing=self._keys.owing,
                owed=f"{self._keys.owed_of}{user}",
                out=f"{self._keys.out_of}{user}",
                delivered=f"{self._keys.delivered_of}{user}",
                dead=f"{self._keys.dead_of}{user}",
                record=self._keys.callback(user, entry),
                outbox_bell=self._keys.outbox_bell,
            )
            word = reply.word
        views = await self._callback_views(user, [entry]) if entry is not None and word == Word.DONE else []
        if not views:
            raise Rejected(
                ProblemCode.NOT_FOUND,
                f"{user} has no callback {callback[:64]!r} to replay: `broker callback list` shows which there are; "
                "one without an attempt goes out by itself",
            )
        return views[0]

    async def _latest(self, user: UserName, place: re.Match[str] | None, limit: int) -> tuple[list[str], str | None]:
        outbox = f"{self._keys.outbox_of}{user}"
        if place is not None and not place[2].strip("0-"):
            return [], None  # the store refuses to look for what comes before the first id that there can be
        last = "+" if place is None else f"({place[2]}"
        found = await self._server.command("XREVRANGE", outbox, last, "-", "COUNT", limit)
        entries = [entry for entry, _ in found]
        return entries, entries[-1] if len(entries) == limit else None

    async def _of_state(
        self, user: UserName, state: CallbackState, place: re.Match[str] | None, limit: int
    ) -> tuple[list[str], str | None]:
        key, is_waiting = self._list_of(user, state), state is CallbackState.WAITING
        begin = 0
        if place is not None:
            at, entry = place[1] or 0, place[2]
            rank = await self._server.command("ZRANK" if is_waiting else "ZREVRANK", key, entry)
            # It is in another state by now, or is kept no more: what came after it then is from its time on.
            beside = ("-inf", f"({at}") if is_waiting else (f"({at}", "+inf")
            begin = int(rank) + 1 if rank is not None else int(await self._server.command("ZCOUNT", key, *beside))
        order = () if is_waiting else ("REV",)
        flat = await self._server.command("ZRANGE", key, begin, begin + limit - 1, *order, "WITHSCORES")
        entries = flat[::2]
        return entries, f"{int(float(flat[-1]))}:{entries[-1]}" if len(entries) == limit else None

    async def _callback_views(self, user: UserName, entries: Sequence[str]) -> list[CallbackView]:
        """Return the views of those entries that are there."""
        lists = [*(self._list_of(user, state) for state in CallbackState), f"{self._keys.out_of}{user}"]
        width = 2 + len(lists)
        flat = await self._server.commands(
            [
                command
                for entry in entries
                for command in (
                    self._range_of(user, entry),
                    ("HGETALL", self._keys.callback(user, entry)),
                    *(("ZSCORE", key, entry) for key in lists),
                )
            ]
        )
        parts = [flat[at : at + width] for at in range(0, len(flat), width)]
        return [_view(user, found[0], record, scores) for found, record, *scores in parts if found]

    def _list_of(self, user: UserName, state: CallbackState) -> str:
        match state:
            case CallbackState.WAITING:
                return f"{self._keys.owed_of}{user}"
            case CallbackState.DELIVERED:
                return f"{self._keys.delivered_of}{user}"
            case CallbackState.DEAD:
                return f"{self._keys.dead_of}{user}"

    async def _entry_of(self, user: UserName, callback: str) -> str | None:
        """Return the entry of a callback that was tried, or is among the oldest of those that were not."""
        if not _ID.fullmatch(callback):
            return None
        known: str | None = await self._server.command("HGET", f"{self._keys.callback_ids_of}{user}", callback)
        if known is not None:
            return known
        oldest = await self._server.command("XRANGE", f"{self._keys.outbox_of}{user}", "-", "+", "COUNT", _LOOKED_AT)
        return next((each[0] for each in oldest if _id_of(user, each) == callback), None)


def _view(user: UserName, entry: Entry, record: Hash, scores: Sequence[str | None]) -> CallbackView:
    event = callback_event(user, entry)
    *listed, out = scores
    state = next((each for each, at in zip(CallbackState, listed, strict=True) if at is not None), CallbackState.DEAD)
    is_due = state is CallbackState.WAITING and out is None
    last_ms, status = record.get("last_ms"), record.get("status")
    return CallbackView(
        callback=webhook_id(event.source, event.id),
        stream=f"{user}/{entry[1]['job']}",
        event=event.id,
        type=event.type,
        state=state,
        created_at=event.time,
        attempts=int(record.get("attempts", 0)),
        subject=event.subject if isinstance(event.subject, str) else None,
        last_at=rfc3339(int(last_ms)) if last_ms else None,
        status=int(status) if status else None,
        sentence=record.get("sentence", ""),
        next_at=rfc3339(int(float(listed[0] or 0))) if is_due else None,
    )


def _id_of(user: UserName, entry: Entry) -> str:
    _, fields = entry
    return webhook_id(f"/streams/{StreamRef(user, fields['job'])}", fields["id"])

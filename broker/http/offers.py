"""What launchers offer, by kinds: who gets nothing tells that others who offer no more get nothing either."""

import itertools
import math
from typing import NamedTuple

import msgspec

from broker.domain.bounds import Bound
from broker.domain.scopes import Authority, Scopes
from broker.wire.dispatches import DispatchRequest, Room
from broker.wire.names import StreamRef
from broker.wire.states import Accelerator, Exchange

_MOST_KINDS = 16
"""Kinds that were told "nothing" which are remembered: of rooms and users there are few."""


class Offer(NamedTuple):
    """A launcher's room, whom its token lets it serve, and when it came, by the clock of the process's loop.

    `is_heard`: the store has heard of the launcher, or will in a moment, and its request repeats none. `rung_by`: the
    stream of which items became ready, so that this one was asked. `labels` are its token's, and its `bound`.
    """

    request: DispatchRequest
    scopes: Scopes
    came_s: float = 0.0
    is_heard: bool = False
    rung_by: StreamRef | None = None
    labels: frozenset[str] = frozenset()
    bound: Bound | None = None

    def serves(self, user: str) -> bool:
        """Tell whether the token covers the user and the site serves them."""
        users = self.request.users
        return (not users or user in users) and self.scopes.permit(Authority.DISPATCH, (user,))

    @property
    def token(self) -> str:
        """Whose token it came with: the name of a launcher begins with it."""
        return self.request.launcher.partition("/")[0]

    def as_of(self, now_s: float) -> "Offer":
        """Return the offer as it would have to be made now: of its time, some has passed."""
        left_ms = self.request.room.time_left_ms
        if left_ms is None:
            return self
        left_ms -= max(0, round((now_s - self.came_s) * 1_000))
        room = msgspec.structs.replace(self.request.room, time_left_ms=left_ms)
        return self._replace(request=msgspec.structs.replace(self.request, room=room), came_s=now_s)

    @property
    def kind(self) -> "Kind":
        """What it has in common with offers that differ from it in their time at most."""
        room = self.request.room
        size = (room.vcpus, room.memory_mib, room.disk_mib)
        return Kind(
            size,
            room.accelerator,
            frozenset(room.exchanges),
            self.scopes,
            frozenset(self.request.users),
            self.labels,
            self.bound,
        )

    def ends_ms(self) -> float:
        """Return when its time is over, by the clock of `came_s`."""
        left_ms = self.request.room.time_left_ms
        return math.inf if left_ms is None else round(self.came_s * 1_000) + left_ms


class Kind(NamedTuple):
    """What fits into an offer, but for its time. `size`: vcpus, memory, disk."""

    size: tuple[int, int, int]
    accelerator: Accelerator
    exchanges: frozenset[Exchange]
    scopes: Scopes
    users: frozenset[str]
    """Whom the site serves; empty is everybody."""
    labels: frozenset[str] = frozenset()
    bound: Bound | None = None
    """Who is told nothing may hold too much already: of another token's launchers that says nothing."""

    def is_covered_by(self, other: "Kind") -> bool:
        """Tell whether everything that fits here, but for its time, would fit there."""
        return (
            all(own <= its for own, its in zip(self.size, other.size, strict=True))
            and self.accelerator == other.accelerator
            and self.exchanges <= other.exchanges
            and self.scopes == other.scopes
            and self.labels <= other.labels
            and other.bound in {None, self.bound}
            and (not other.users or (bool(self.users) and self.users <= other.users))
        )


class Nothing:
    """Who was told "nothing", and with that all others who offer no more: by kind, those whose time ends until then."""

    def __init__(self) -> None:
        self._until_ms: dict[Kind, float] = {}

    def note(self, kind: Kind, ends_ms: float) -> None:
        self._until_ms[kind] = max(ends_ms, self._until_ms.get(kind, -math.inf))

    def remember(self, kind: Kind, ends_ms: float) -> None:
        """Note it for offers to come, as long as there are few kinds to compare each with."""
        if len(self._until_ms) < _MOST_KINDS:
            self.note(kind, ends_ms)

    def to_remember(self) -> "Nothing":
        """Return what of it offers to come are compared with."""
        some = Nothing()
        some._until_ms = dict(itertools.islice(self._until_ms.items(), _MOST_KINDS))
        return some

    def until_ms(self, kind: Kind) -> float:
        """Return until when the time of an offer of this kind may end for it to be known to get nothing."""
        return max((until for told, until in self._until_ms.items() if kind.is_covered_by(told)), default=-math.inf)


def larger(before: Room, now: Room) -> Room:
    """Return the most of both; what a node is, and how long it stays, as it is now."""
    return msgspec.structs.replace(
        now,
        vcpus=max(before.vcpus, now.vcpus),
        memory_mib=max(before.memory_mib, now.memory_mib),
        disk_mib=max(before.disk_mib, now.disk_mib),
    )

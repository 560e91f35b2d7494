"""Items for launchers: who comes next by fair share, what fits into the offered room, and what was given before."""

import asyncio
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import NamedTuple
from uuid import uuid4

from broker.domain import deadlines, placement
from broker.domain.bounds import Bound
from broker.domain.deadlines import DEFAULT, Deadlines
from broker.domain.secrets import is_trusted, trusted_label
from broker.store import arguments
from broker.store.answers import Dispatched
from broker.store.catalogue import Catalogue
from broker.store.keys import Keys
from broker.store.launchers import too_many_launchers
from broker.store.reading import TRIES
from broker.store.records import given_item, item_ref, kept_item, revision_of
from broker.store.remembered import Remembered
from broker.store.scripts import Word
from broker.store.server import Reply, Server
from broker.wire.dispatches import DispatchRequest, Room
from broker.wire.machines import MachineView
from broker.wire.names import DispatchId, ItemRef, MachineRef, StreamRef, UserName, parse_owned
from broker.wire.streams import StreamSpec

LOOKED_AT = 20
"""Streams that are looked at in one round trip, in the order of their fair share."""
MAX_HEARD = 1_000
"""Launchers that are noted at once."""
MAX_LOOKED_AT = 1_000
"""One request looks at so many."""
MAX_LANES = 100
"""And at the ready items of so many lanes of a stream: spec revisions and priority classes."""
MAX_STOPS_IN_MS = 3_600_000
"""A launcher tells its guests to stop at most an hour ahead."""
_DEFAULT_MEAN_MS = 60_000
"""What a vm is expected to take until its stream's first completion."""
_DROPS = 50
"""How often one request goes on after it dropped a script's fill of stale entries."""
_SEEN_STREAMS = 1_000
"""Streams of which it is remembered how they were when they came first."""
_SEEN_MACHINES = 64
"""Machines whose latest revision is remembered. Their XML is what counts: one may have half a megabyte."""


class _Fit(NamedTuple):
    """A spec's revision that fits into the room, with what its vm takes."""

    revision: int
    spec: StreamSpec
    machine: MachineView
    size: placement.Size
    boot_ms: int


class Presence(StrEnum):
    """What the store makes of a launcher that waits."""

    HEARD = "heard"
    GIVEN = "given"
    """Its dispatch key was given something before: it asks for that again."""
    FULL = "full"
    """Its token has as many launchers as may be."""


class _GivenBefore(Exception):
    """The same request came twice at once: the other one was given these `dispatches`, a word each."""

    def __init__(self, dispatches: str) -> None:
        super().__init__(dispatches)
        self.dispatches = dispatches


class _HoldsEnough(Exception):
    """The launchers of this token hold as much as they may: whatever comes next, it is not theirs."""


class _Next(NamedTuple):
    """A stream with ready items, what its vms take on average, and its lanes."""

    ref: StreamRef
    mean_ms: int
    lanes: list[str]


class _Taking(NamedTuple):
    """A request on its way from user to user: what it was given so far, and the room that is left."""

    request: DispatchRequest
    key: str
    given: list[Dispatched]
    labels: AbstractSet[str]
    bound: Bound | None

    @property
    def wanted(self) -> int:
        return (self.request.most or 1) - len(self.given)

    def room(self) -> Room:
        """Return what is left of the offered room."""
        room = self.request.room
        for each in self.given:
            room = placement.less(room, each.size)
        return room


class Dispatching(Catalogue):
    def __init__(self, server: Server, keys: Keys, deadlines_: Deadlines = DEFAULT) -> None:
        super().__init__(server, keys, deadlines_)
        self._seen_machines: Remembered[MachineRef, MachineView] = Remembered(_SEEN_MACHINES)
        self._seen_first: Remembered[StreamRef, _Next] = Remembered(_SEEN_STREAMS)

    async def dispatch(
        self,
        request: DispatchRequest,
        serves: Callable[[UserName], bool],
        *,
        labels: AbstractSet[str] = frozenset(),
        bound: Bound | None = None,
        is_heard: bool = False,
        rung_by: StreamRef | None = None,
    ) -> list[Dispatched]:
        """Give the launcher the next items that fit into its room together, by fair share; none when there are none.

        Users take turns by what they were given so far, then each user's streams. Of a stream's items the first goes
        that fits, whose machine is there and which waits for no canary. Atomic for each item; repeating the
        request within an hour gets the same dispatches, even when they are over by then. With `is_heard` the launcher
        was noted before, and the request is known to repeat none. `rung_by`: of this stream items became ready a moment
        ago; where it comes first, as it often does then, nothing else is looked at before. `labels` are those of the
        launcher's token: items of a stream with secrets go only where its spec trusts one of them. `bound` is how
        much that token's launchers may hold.

        Raises:
            Conflict: TOO_MANY_LAUNCHERS: as many of its token as may be are there.
            Unavailable: repeat with the same dispatch key.
        """
        key = self._keys.dispatch_key(request.launcher, request.dispatch_key)
        taking = _Taking(request, key, [], labels, bound)
        streams: list[_Next] | None = None
        if not is_heard:
            # Asked at once: both go out in one round trip.
            heard, streams = await asyncio.gather(self._hear(request, key), self._look(0))
            match heard.word:
                case Word.REPEATED:
                    return await self._given(heard.values[0])
                case Word.FULL:
                    raise too_many_launchers()
        try:
            if rung_by is not None and serves(rung_by.user):
                await self._dispatch_guessed(rung_by, taking)
            while taking.wanted > 0:
                if streams is None:
                    streams = await self._look(0)
                if not await self._dispatch_next(taking, serves, streams):
                    break
                streams = None
        except _GivenBefore as same:
            return await self._given(same.dispatches)
        except _HoldsEnough:
            pass  # what it was given before it did, it has
        return taking.given

    async def _hear(self, request: DispatchRequest, key: str) -> Reply:
        return await self._server.act(
            arguments.Hear(request.launcher, self._deadlines.launcher_grace_ms),
            launchers=self._keys.launchers,
            launchers_of=self._keys.launchers_of,
            reports=self._keys.reports,
            dispatch_key=key,
        )

    async def _look(self, skip: int) -> list[_Next]:
        reply = await self._server.act(
            arguments.Look(skip=skip, most=LOOKED_AT, lanes=MAX_LANES),
            ring=self._keys.ring,
            user_rings=self._keys.user_ring(UserName("")),
            streams_of=self._keys.streams_of,
            readies=self._keys.readies,
        )
        found = [
            _Next(StreamRef(UserName(user), job), int(mean_ms or _DEFAULT_MEAN_MS), lanes)
            for user, job, mean_ms, *lanes in reply.values
        ]
        if found and skip == 0:
            self._seen_first.keep(found[0].ref, found[0])
        return found

    async def _dispatch_next(self, taking: _Taking, serves: Callable[[UserName], bool], streams: list[_Next]) -> bool:
        """Take what the first stream in the order of fair shares gives that has an item for the room."""
        looked_at = 0
        while streams:
            for each in streams:
                if serves(each.ref.user) and await self._dispatch_from(each, taking):
                    return True
            looked_at += len(streams)
            if len(streams) < LOOKED_AT or looked_at >= MAX_LOOKED_AT:
                break
            streams = await self._look(looked_at)
        return False

    async def hear_many(self, requests: Sequence[DispatchRequest]) -> list[Presence]:
        """Note that launchers are there which wait, at most `MAX_HEARD`; tell of each what it asks the store for.

        Raises:
            Unavailable: ask again.
        """
        assert len(requests) <= MAX_HEARD
        by_token = sorted(requests, key=lambda each: each.launcher.rpartition("/")[0])
        named = ((each.launcher, self._keys.dispatch_key(each.launcher, each.dispatch_key)) for each in by_token)
        reply = await self._server.act(
            arguments.HearMany(self._deadlines.launcher_grace_ms, tuple(part for pair in named for part in pair)),
            launchers=self._keys.launchers,
            launchers_of=self._keys.launchers_of,
            reports=self._keys.reports,
        )
        told = {id(each): Presence(word) for each, word in zip(by_token, reply.values, strict=True)}
        return [told[id(each)] for each in requests]

    async def held_by(self, holders: Sequence[str]) -> dict[str, int]:
        """Return how many dispatches the launchers of each of these tokens hold."""
        counts = await self._server.commands([("SCARD", f"{self._keys.holds_of}{holder}") for holder in holders])
        return dict(zip(holders, map(int, counts), strict=True))

    async def _dispatch_from(self, each: _Next, taking: _Taking) -> bool:
        """Take the first items that fit: the lanes are tried in the order of their first ones."""
        room = taking.room()
        for lane in each.lanes:
            for _ in range(TRIES):
                fit = await self._fit(each.ref, revision_of(lane), room, taking.labels)
                if fit is None:
                    break
                word = await self._dispatch_fitting(each.ref, taking, lane, fit, fit.size.vcpus * each.mean_ms)
                if word == Word.DONE:
                    return True
                if word == Word.FULL:
                    raise _HoldsEnough
                if word != Word.CHANGED:
                    break
                self._seen_machines.pop(parse_owned(fit.machine.machine, None, "machine"), None)
        return False

    async def _dispatch_guessed(self, ref: StreamRef, taking: _Taking) -> None:
        """Take what the stream gives if it is first now, with its first lane, as it was when it was first before."""
        seen = self._seen_first.get(ref)
        if seen is None or not seen.lanes:
            return
        fit = await self._fit(ref, revision_of(seen.lanes[0]), taking.room(), taking.labels)
        if fit is not None:
            cost = fit.size.vcpus * seen.mean_ms
            await self._dispatch_fitting(ref, taking, seen.lanes[0], fit, cost, is_next=True)

    async def _dispatch_fitting(
        self, ref: StreamRef, taking: _Taking, lane: str, fit: _Fit, cost: int, *, is_next: bool = False
    ) -> Word:
        """Take items of the lane; answer `done`, or why there are none. `is_next`: none if it does not come next.

        Raises:
            _GivenBefore: this request's key was given something else.
        """
        count = min(taking.wanted, placement.how_many(taking.room(), fit.size))
        if count <= 0:
            return Word.EMPTY
        for _ in range(_DROPS):
            dispatches = tuple(DispatchId(str(uuid4())) for _ in range(count))
            reply = await self._server.act(
                _arguments(ref, lane, dispatches, taking, fit, cost, is_next=is_next),
                self._keys.of_stream(ref),
                dispatch_key=taking.key,
                definitions=self._keys.machine(parse_owned(fit.machine.machine, None, "machine")),
            )
            match reply.word:
                case Word.DONE:
                    for dispatch, (number, fence, *texts) in zip(dispatches, reply.values, strict=False):
                        item = given_item(ItemRef(ref, int(number)), fit.revision, *texts)
                        self._items_of.keep(dispatch, item.ref)
                        taking.given.append(
                            Dispatched(dispatch, item, int(fence), fit.spec, fit.machine, fit.size, fit.boot_ms, False)
                        )
                case Word.REPEATED:
                    raise _GivenBefore(reply.values[0])
            if reply.word != Word.AGAIN:
                return reply.word
        return Word.EMPTY

    async def _fit(self, ref: StreamRef, revision: int, room: Room, labels: AbstractSet[str]) -> _Fit | None:
        """Return what a spec's revision needs, when it fits into the room and trusts its launcher.

        That of a machine as it was seen last is good enough: the script finds out when there is another one by now.
        What does not fit may fit now, so that it is looked at before anybody is told so.
        """
        spec = await self._spec(ref, revision)
        if not is_trusted(spec, labels):
            return None
        name = parse_owned(spec.machine, ref.user, "machine")
        seen = self._seen_machines.get(name)
        if seen is not None and await self.may_use(ref.user, name):
            fit = _fit_of(revision, spec, seen, room)
            if fit is not None:
                return fit
        machine = await self.usable_machine(ref.user, name)
        if machine is None:
            return None
        self._seen_machines.keep(name, machine)
        return _fit_of(revision, spec, machine, room)

    async def _given(self, dispatches: str) -> list[Dispatched]:
        """Return what a request was given when its key came first, but for items that were forgotten since."""
        found = [await self._given_once(DispatchId(dispatch)) for dispatch in dispatches.split(" ")]
        return [each for each in found if each is not None]

    async def _given_once(self, dispatch: DispatchId) -> Dispatched | None:
        vm = await self._vm(dispatch)
        if not vm:
            return None
        ref = item_ref(vm["item"])
        item = await self._item(ref)
        if not item:
            return None  # forgotten in between
        revision = int(item["revision"])
        spec = await self._spec(ref.stream, revision)
        machine = await self.get_machine(parse_owned(vm["machine"], None, "machine"), int(vm["machine_revision"]))
        assert machine is not None, "machines' revisions stay"
        size = placement.Size(int(vm["vcpus"]), int(vm["memory_mib"]), spec.needs.disk_mib)
        given = kept_item(ref, item)
        return Dispatched(dispatch, given, int(vm["fence"]), spec, machine, size, int(vm["boot_ms"]), True)


def _fit_of(revision: int, spec: StreamSpec, machine: MachineView, room: Room) -> _Fit | None:
    size = placement.size_of(spec.needs, machine.vcpus, machine.memory_mib, room)
    boot_ms = deadlines.boot_ms(spec.limits.boot_ms, room.accelerator)
    if placement.unmet(spec.needs, size, boot_ms, spec.limits.run_ms, room) is not None:
        return None
    return _Fit(revision, spec, machine, size, boot_ms)


def _arguments(
    ref: StreamRef,
    lane: str,
    dispatches: tuple[DispatchId, ...],
    taking: _Taking,
    fit: _Fit,
    cost: int,
    *,
    is_next: bool,
) -> arguments.Dispatch:
    request = taking.request
    return arguments.Dispatch(
        user=ref.user,
        job=ref.name,
        lane=lane,
        is_next=is_next,
        revision=fit.revision,
        cost=cost,
        launcher=request.launcher,
        node=request.node,
        accelerator=request.room.accelerator.value,
        vcpus=fit.size.vcpus,
        memory_mib=fit.size.memory_mib,
        machine=fit.machine.machine,
        machine_revision=fit.machine.revision,
        boot_ms=fit.boot_ms,
        run_ms=fit.spec.limits.run_ms,
        trusted=trusted_label(fit.spec, taking.labels),
        holder=taking.bound.holder if taking.bound else "",
        most_held=taking.bound.most if taking.bound else 0,
        kept_for=fit.spec.keep_ms,
        first_deadline_ms=deadlines.FIRST_DEADLINE_MS,
        time_left_ms="" if request.room.time_left_ms is None else str(request.room.time_left_ms),
        drain_ms=max(0, min(request.room.drain_ms, MAX_STOPS_IN_MS)),
        given=" ".join(each.dispatch for each in taking.given),
        rest=dispatches,
    )

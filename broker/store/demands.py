"""What is ready for launchers, by what its vms need. Reads only; no act on an item is decided by it."""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

import msgspec

from broker.domain import placement
from broker.domain.secrets import is_trusted
from broker.store.prospects import Probation, Prospects
from broker.store.records import revision_of
from broker.wire.dispatches import Room
from broker.wire.jobs import MAX_DEMANDS, Demand, DemandPage
from broker.wire.machines import MachineView
from broker.wire.names import MachineRef, StreamRef, UserName, parse_owned
from broker.wire.states import Accelerator
from broker.wire.streams import StreamSpec

MAX_LOOKED_AT: Final = 1_000
"""Streams that one request looks at."""
MAX_USERS: Final = 1_000
"""Users whose streams are looked at."""
MAX_LANES: Final = 10
"""And the ready items of so many lanes of each, those that are given out first."""
_AT_ONCE: Final = 100
"""So many are read in one round trip: a machine's XML may have half a megabyte."""
_ONE: Final = Room(vcpus=1, memory_mib=1, disk_mib=1, accelerator=Accelerator.TCG)
"""What a vm that takes whatever is free is counted by."""


class _Listed(NamedTuple):
    """A lane with ready items, and how many of all its lanes the stream has."""

    ref: StreamRef
    lane: str
    of_stream: int

    @property
    def revision(self) -> int:
        return revision_of(self.lane)


class _Machine(NamedTuple):
    """What is needed of a machine's latest revision."""

    revision: int
    vcpus: int
    memory_mib: int
    images: tuple[str, ...]


_Machines = dict[tuple[UserName, MachineRef], _Machine | None]
"""By who wants to use it; None where there is none for them."""


class Demands(Prospects):
    async def demand(self, serves: Callable[[UserName], bool], labels: AbstractSet[str] = frozenset()) -> DemandPage:
        """Return the ready items of the users that are served, those of who was served least lately first.

        Of a spec revision that has to prove itself no more are told than may be given out now. Entries of items that
        left `ready` by another way are counted until a dispatch meets them, but no stream is told to have more ready
        items than it has. When there is more than one request looks at, no user is left out for what others have.
        Streams whose secrets are trusted to none of the `labels` are left out.
        """
        refs, are_more_streams = await self._streams_with_ready(serves)
        listed, are_more_lanes = await self._lanes_with_ready(refs)
        left = {each.ref: each.of_stream for each in listed}
        machines: _Machines = {}
        found: dict[Demand, int] = {}
        for start in range(0, len(listed), _AT_ONCE):
            for ref, kind, ready in await self._demands_of(listed[start : start + _AT_ONCE], machines, labels):
                count = min(ready, left[ref])
                left[ref] -= count
                if count:
                    found[kind] = found.get(kind, 0) + count
        demands = [msgspec.structs.replace(kind, ready=count) for kind, count in found.items()]
        is_cut = are_more_streams or are_more_lanes or len(demands) > MAX_DEMANDS
        return DemandPage(demands=demands[:MAX_DEMANDS], is_cut=is_cut)

    async def _streams_with_ready(self, serves: Callable[[UserName], bool]) -> tuple[list[StreamRef], bool]:
        """Return the streams to look at, and whether there may be more."""
        users = await self._server.command("ZRANGE", self._keys.ring, 0, MAX_USERS)
        served = [user for user in users[:MAX_USERS] if serves(user)]
        numbers = await self._server.commands([("ZCARD", self._keys.user_ring(user)) for user in served])
        shares = [each for each in zip(served, shared_out(numbers, MAX_LOOKED_AT), strict=True) if each[1]]
        jobs = await self._server.commands(
            [("ZRANGE", self._keys.user_ring(user), 0, share - 1) for user, share in shares]
        )
        refs = [StreamRef(user, job) for (user, _), of_user in zip(shares, jobs, strict=True) for job in of_user]
        return refs, len(users) > MAX_USERS or sum(numbers) > MAX_LOOKED_AT

    async def _lanes_with_ready(self, refs: list[StreamRef]) -> tuple[list[_Listed], bool]:
        """Return the lanes to look at, and whether there are more."""
        keys = [self._keys.of_stream(ref) for ref in refs]
        lanes = await self._server.commands([("ZRANGE", each.ready, 0, MAX_LANES) for each in keys])
        ready = await self._server.commands([("HGET", each.stream, "ready") for each in keys])
        listed = [
            _Listed(ref, lane, int(number or 0))
            for ref, of_stream, number in zip(refs, lanes, ready, strict=True)
            for lane in of_stream[:MAX_LANES]
        ]
        return listed, any(len(of_stream) > MAX_LANES for of_stream in lanes)

    async def _demands_of(
        self, listed: Sequence[_Listed], machines: _Machines, labels: AbstractSet[str]
    ) -> list[tuple[StreamRef, Demand, int]]:
        """Return what vms of each need and how many may be given out; those that may not be are left out."""
        specs = await self._definitions_of(
            [(self._keys.of_stream(each.ref).specs, each.revision) for each in listed], StreamSpec
        )
        named = [parse_owned(spec.machine, each.ref.user, "machine") for each, spec in zip(listed, specs, strict=True)]
        await self._add_machines([(each.ref.user, name) for each, name in zip(listed, named, strict=True)], machines)
        usable = [
            (each, spec, machine)
            for each, spec, name in zip(listed, specs, named, strict=True)
            if (machine := machines[each.ref.user, name]) is not None and is_trusted(spec, labels)
        ]
        lengths = await self._server.commands(
            [("LLEN", f"{self._keys.of_stream(each.ref).ready_of}{each.lane}") for each, _, _ in usable]
        )
        more = await self.more_canaries(
            [Probation(each.ref, each.revision, machine.revision) for each, _, machine in usable]
        )
        left = {(each.ref, each.revision): most for (each, _, _), most in zip(usable, more, strict=True)}
        found = []
        for (each, spec, machine), length in zip(usable, lengths, strict=True):
            of_revision = (each.ref, each.revision)
            most = left[of_revision]
            count = length if most is None else min(length, most)
            left[of_revision] = None if most is None else most - count
            found.append((each.ref, _demand(each.ref.user, spec, machine), count))
        return found

    async def _add_machines(self, wanted: Iterable[tuple[UserName, MachineRef]], machines: _Machines) -> None:
        """Look up those machines that are not known yet."""
        asked = [each for each in dict.fromkeys(wanted) if each not in machines]
        latest = await self._server.commands([("HGET", self._keys.machine(ref), "latest") for _, ref in asked])
        shared = await self._server.commands([("SISMEMBER", self._keys.readers(ref), user) for user, ref in asked])
        usable = [
            (user, ref, int(revision))
            for (user, ref), revision, is_shared in zip(asked, latest, shared, strict=True)
            if revision is not None and (user == ref.user or is_shared)
        ]
        views = await self._definitions_of(
            [(self._keys.machine(ref), revision) for _, ref, revision in usable], MachineView
        )
        machines |= dict.fromkeys(asked)
        for (user, ref, revision), view in zip(usable, views, strict=True):
            machines[user, ref] = _Machine(revision, view.vcpus, view.memory_mib, _public_images(view))


def shared_out(wanted: Sequence[int], most: int) -> list[int]:
    """Share out a number: nobody gets less than an equal part of it because others want more than theirs."""
    shares = [0] * len(wanted)
    for place, index in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        shares[index] = min(wanted[index], most // (len(wanted) - place))
        most -= shares[index]
    return shares


def _public_images(machine: MachineView) -> tuple[str, ...]:
    """Return the digests of those disks whose owner said where anybody may fetch them."""
    return tuple(sorted({disk.digest for disk in machine.disks.values() if disk.url is not None}))


def _demand(user: UserName, spec: StreamSpec, machine: _Machine) -> Demand:
    size = placement.size_of(spec.needs, machine.vcpus, machine.memory_mib, _ONE)
    return Demand(
        user=user,
        ready=0,
        vcpus=size.vcpus,
        memory_mib=size.memory_mib,
        disk_mib=size.disk_mib,
        accelerator=spec.needs.accelerator,
        exchange=spec.needs.exchange,
        boot_ms=spec.limits.boot_ms,
        run_ms=spec.limits.run_ms,
        images=machine.images,
    )

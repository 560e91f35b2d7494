"""What is ready for launchers, by what its vms need. Reads only; no act on an item is decided by it."""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from broker.domain import placement
from broker.domain.canary import CANARIES
from broker.store.dispatches import MAX_REVISIONS, MAX_STREAMS, MAX_USERS
from broker.store.prospects import Prospects
from broker.wire.dispatches import Room
from broker.wire.jobs import MAX_DEMANDS, Demand, DemandPage
from broker.wire.machines import MachineView
from broker.wire.names import MachineRef, StreamRef, UserName, parse_owned
from broker.wire.states import Accelerator
from broker.wire.streams import StreamSpec

MAX_LOOKED_AT: Final = 1_000
"""Streams that one request looks at."""
_ONE: Final = Room(vcpus=1, memory_mib=1, disk_mib=1, accelerator=Accelerator.TCG)
"""What a vm that takes whatever is free is counted by."""


class _Ready(NamedTuple):
    """Entries of a spec revision that are listed as ready."""

    ref: StreamRef
    revision: int
    entries: int


class Demands(Prospects):
    async def demand(self, serves: Callable[[UserName], bool]) -> DemandPage:
        """Return the ready items of the users that are served, those of who was served least lately first.

        Of a spec revision that has to prove itself no more are told than may be given out now. Entries of items that
        left `ready` by another way are counted until a dispatch meets them, but never more than the stream has ready.
        """
        refs, is_cut = await self._streams_with_ready(serves)
        machines: dict[tuple[UserName, MachineRef], MachineView | None] = {}
        found: dict[Demand, int] = {}
        for ready in await self._ready_of(refs):
            spec = await self._spec(ready.ref, ready.revision)
            name = parse_owned(spec.machine, ready.ref.user, "machine")
            if (ready.ref.user, name) not in machines:
                machines[ready.ref.user, name] = await self.usable_machine(ready.ref.user, name)
            machine = machines[ready.ref.user, name]
            if machine is None:
                continue
            count = min(ready.entries, await self._may_go_out(ready.ref, ready.revision, machine.revision))
            if count:
                kind = _demand(ready.ref.user, spec, machine)
                found[kind] = found.get(kind, 0) + count
        demands = [msgspec.structs.replace(kind, ready=count) for kind, count in found.items()]
        return DemandPage(demands=demands[:MAX_DEMANDS], is_cut=is_cut or len(demands) > MAX_DEMANDS)

    async def _streams_with_ready(self, serves: Callable[[UserName], bool]) -> tuple[list[StreamRef], bool]:
        users = await self._server.command("ZRANGE", self._keys.ring, 0, MAX_USERS - 1)
        served = [user for user in users if serves(user)]
        jobs = await self._server.commands(
            [("ZRANGE", self._keys.user_ring(user), 0, MAX_STREAMS - 1) for user in served]
        )
        refs = [StreamRef(user, job) for user, of_user in zip(served, jobs, strict=True) for job in of_user]
        return refs[:MAX_LOOKED_AT], len(refs) > MAX_LOOKED_AT

    async def _ready_of(self, refs: list[StreamRef]) -> list[_Ready]:
        keys = [self._keys.of_stream(ref) for ref in refs]
        listed = await self._server.commands([("ZRANGE", each.ready, 0, MAX_REVISIONS - 1) for each in keys])
        counted = await self._server.commands([("HGET", each.stream, "ready") for each in keys])
        asked = [(ref, int(revision)) for ref, revisions in zip(refs, listed, strict=True) for revision in revisions]
        lengths = await self._server.commands(
            [("LLEN", f"{self._keys.of_stream(ref).ready_of}{revision}") for ref, revision in asked]
        )
        most = {ref: int(count or 0) for ref, count in zip(refs, counted, strict=True)}
        return [
            _Ready(ref, revision, min(length, most[ref]))
            for (ref, revision), length in zip(asked, lengths, strict=True)
        ]

    async def _may_go_out(self, ref: StreamRef, revision: int, machine_revision: int) -> int:
        out = await self.canaries_out(ref, revision, machine_revision)
        return 1 << 40 if out is None else max(0, CANARIES - out)


def _demand(user: UserName, spec: StreamSpec, machine: MachineView) -> Demand:
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
        images=tuple(sorted({disk.digest for disk in machine.disks.values() if disk.url is not None})),
    )

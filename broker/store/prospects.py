"""What stands between a ready item and a launcher, as far as the store knows it. Reads only."""

from collections.abc import Sequence
from typing import NamedTuple

from broker.domain.canary import CANARIES
from broker.store.catalogue import Catalogue
from broker.store.launchers import MAX_LISTED
from broker.wire.machines import MachineView
from broker.wire.names import DispatchId, StreamRef, parse_owned
from broker.wire.streams import StreamSpec


class Prospect(NamedTuple):
    """Of items of one spec revision.

    Attributes:
        spec: theirs.
        machine: the latest revision of its machine; None when that is no longer there, or no longer shared with the
            stream's user.
        canaries_out: as many vms as may boot at once have not claimed yet.
        launchers: those that were heard of within a launcher's grace.
    """

    spec: StreamSpec
    machine: MachineView | None
    canaries_out: bool
    launchers: frozenset[str]


class Probation(NamedTuple):
    """A spec revision that one vm of this revision of its machine has to prove by a claim."""

    ref: StreamRef
    revision: int
    machine_revision: int


class Prospects(Catalogue):
    async def prospect(self, ref: StreamRef, revision: int) -> Prospect:
        """Return what the ready items of a spec revision that is known to be there wait for."""
        spec = await self._spec(ref, revision)
        machine = await self.usable_machine(ref.user, parse_owned(spec.machine, ref.user, "machine"))
        on_trial = [] if machine is None else [Probation(ref, revision, machine.revision)]
        is_held_back = any(more == 0 for more in await self.more_canaries(on_trial))
        return Prospect(spec, machine, is_held_back, await self.present_launchers())

    async def more_canaries(self, of: Sequence[Probation]) -> list[int | None]:
        """Return how many more vms of each may be given out now; None of those that have proven themselves."""
        records = await self._server.commands(
            [
                ("HMGET", self._keys.of_stream(each.ref).stream, f"proven:{each.revision}", f"canaries:{each.revision}")
                for each in of
            ]
        )
        given = [_canaries(each, *record) for each, record in zip(of, records, strict=True)]
        dispatches = sorted({dispatch for canaries in given for dispatch in canaries or ()})
        vms = await self._server.commands([("HMGET", self._keys.vm(each), "item", "over") for each in dispatches])
        out = {each for each, (item, over) in zip(dispatches, vms, strict=True) if item is not None and over is None}
        return [None if canaries is None else max(0, CANARIES - len(out & canaries)) for canaries in given]

    async def present_launchers(self) -> frozenset[str]:
        """Return the launchers that were heard of within a launcher's grace."""
        since_ms = await self._now_ms() - self._deadlines.launcher_grace_ms
        return frozenset(
            await self._server.command(
                "ZRANGE", self._keys.launchers, "+inf", since_ms, "BYSCORE", "REV", "LIMIT", 0, MAX_LISTED
            )
        )


def _canaries(of: Probation, proven: str | None, kept: str | None) -> frozenset[DispatchId] | None:
    """Return the vms that were given out to prove it, as lib/canary.lua keeps them; None once one has."""
    if int(proven or 0) >= of.machine_revision:
        return None
    machine_revision, *dispatches = (kept or "0").split(" ")
    return frozenset(map(DispatchId, dispatches)) if int(machine_revision) == of.machine_revision else frozenset()

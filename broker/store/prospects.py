"""What stands between a ready item and a launcher, as far as the store knows it. Reads only."""

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


class Prospects(Catalogue):
    async def prospect(self, ref: StreamRef, revision: int) -> Prospect:
        """Return what the ready items of a spec revision that is known to be there wait for."""
        spec = await self._spec(ref, revision)
        machine = await self.usable_machine(ref.user, parse_owned(spec.machine, ref.user, "machine"))
        out = None if machine is None else await self.canaries_out(ref, revision, machine.revision)
        return Prospect(spec, machine, out is not None and out >= CANARIES, await self._launchers())

    async def canaries_out(self, ref: StreamRef, revision: int, machine_revision: int) -> int | None:
        """Return how many vms are out by which a spec revision is to prove itself; None when it has."""
        proven, kept = await self._server.command(
            "HMGET", self._keys.of_stream(ref).stream, f"proven:{revision}", f"canaries:{revision}"
        )
        of, *dispatches = (kept or "0").split(" ")
        if int(proven or 0) >= machine_revision:
            return None
        if int(of) != machine_revision:
            return 0
        vms = await self._server.commands(
            [("HMGET", self._keys.vm(DispatchId(dispatch)), "item", "over") for dispatch in dispatches]
        )
        return sum(item is not None and over is None for item, over in vms)

    async def _launchers(self) -> frozenset[str]:
        since_ms = await self._now_ms() - self._deadlines.launcher_grace_ms
        return frozenset(
            await self._server.command(
                "ZRANGE", self._keys.launchers, "+inf", since_ms, "BYSCORE", "REV", "LIMIT", 0, MAX_LISTED
            )
        )

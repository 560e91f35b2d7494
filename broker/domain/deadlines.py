"""How long each party may be silent. All in milliseconds of the store's clock, the only clock that decides."""

from dataclasses import dataclass

from broker.wire.states import Accelerator

FIRST_DEADLINE_MS = 15_000
"""Until a dispatch's launcher says `preparing`: a lost answer costs seconds, not a boot's time."""
PREPARE_MS = 3_600_000
"""From `preparing` to `booting`: the first vm of a node may wait for its image's download."""
BOOT_MS = {Accelerator.KVM: 300_000, Accelerator.TCG: 900_000}
AWAY_MS = 5_000
"""A clock that ticks later than this was away, or time jumped: nothing that fell due meanwhile is taken at its word."""


LEAST_HEARTBEATS = 3
"""A lease and a launcher's grace last at least so many heartbeats: one that is lost ends nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """What an operator may set: all parties are told the heartbeat, the broker judges by the rest.

    Attributes:
        heartbeat_ms: how often guests and launchers extend.
        lease_ms: how long a guest may be silent.
        launcher_grace_ms: a launcher unheard of for longer counts as gone.
    """

    heartbeat_ms: int = 20_000
    lease_ms: int = 120_000
    launcher_grace_ms: int = 60_000

    def __post_init__(self) -> None:
        for name in ("lease_ms", "launcher_grace_ms"):
            if getattr(self, name) < LEAST_HEARTBEATS * self.heartbeat_ms:
                raise ValueError(f"{name} is less than {LEAST_HEARTBEATS} heartbeats of {self.heartbeat_ms} ms")


DEFAULT = Deadlines()


def boot_ms(wanted_ms: int | None, accelerator: Accelerator) -> int:
    """Return the boot deadline: the stream's, or the accelerator's default."""
    return wanted_ms if wanted_ms is not None else BOOT_MS[accelerator]

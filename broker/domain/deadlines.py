"""How long each party may be silent. All in milliseconds of the store's clock, the only clock that decides."""

from broker.wire.states import Accelerator

HEARTBEAT_MS = 20_000
LEASE_MS = 120_000
FIRST_DEADLINE_MS = 15_000
"""Until a dispatch's launcher says `preparing`: a lost answer costs seconds, not a boot's time."""
PREPARE_MS = 3_600_000
"""From `preparing` to `booting`: the first vm of a node may wait for its image's download."""
BOOT_MS = {Accelerator.KVM: 300_000, Accelerator.TCG: 900_000}
LAUNCHER_GRACE_MS = 60_000
"""A launcher unheard of for longer counts as gone: three missed heartbeats."""
AWAY_MS = 5_000
"""A clock that ticks later than this was away, or time jumped: nothing that fell due meanwhile is taken at its word."""


def boot_ms(wanted_ms: int | None, accelerator: Accelerator) -> int:
    """Return the boot deadline: the stream's, or the accelerator's default."""
    return wanted_ms if wanted_ms is not None else BOOT_MS[accelerator]

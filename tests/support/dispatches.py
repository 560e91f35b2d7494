"""An item given to a launcher, for tests that care about one or two things of it."""

from typing import Any

import msgspec

from broker.wire.dispatches import DispatchAnswer, DispatchLimits

_ANSWER = DispatchAnswer(
    dispatch="11111111-2222-3333-4444-555555555555",
    item="alice/render/1",
    fence=1,
    ticket="a-ticket",
    machine="alice/m",
    machine_revision=1,
    domain_xml="",
    disks={},
    vcpus=1,
    memory_mib=100,
    disk_mib=10,
    limits=DispatchLimits(boot_ms=60_000, run_ms=60_000, first_deadline_ms=60_000, heartbeat_ms=10),
    origins=[],
)


def dispatched(**differences: Any) -> DispatchAnswer:
    """Return a broker's answer with these fields, and others that do not matter."""
    return msgspec.structs.replace(_ANSWER, **differences)

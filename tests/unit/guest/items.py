from typing import Any

from broker.wire.leases import ClaimAnswer, LeaseLimits

LIMITS = LeaseLimits(heartbeat_ms=1_000, lease_ms=60_000, run_ms=60_000, output_mib=1, max_outputs=3)


def claimed(**changes: Any) -> ClaimAnswer:
    fields: dict[str, Any] = {
        "item": "alice/render/17",
        "fence": 1,
        "lease": "vl1.x",
        "run": "true",
        "as_user": "root",
        "output_files": ["*"],
        "limits": LIMITS,
    }
    return ClaimAnswer(**(fields | changes))

"""The page on a node's health, from the launcher's tables."""

from broker.wire.states import HealthCode, HealthState
from docs.generator.layout import code, page, table
from launcher.node.health import (
    EXCLUDED_PAUSE_S,
    FAULTS,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    NEVER_CLAIMS_LIMIT,
    TRANSITIONS,
)

_STATES = {
    HealthState.HEALTHY: "offers all the room that is free",
    HealthState.BACKING_OFF: "offers nothing until `retry_at`",
    HealthState.CANARY: "offers room for one vm; for more once a vm has claimed",
    HealthState.EXCLUDED: f"took itself out; tries one vm every {EXCLUDED_PAUSE_S / 60:g} min",
    HealthState.DRAINING: "takes nothing more, and ends",
}
_CODES = {
    HealthCode.IMAGE_SOURCE_AWAY: "an image could not be had from where it is",
    HealthCode.IMAGE_CACHE_FAILED: "the cache folder could not be written or read",
    HealthCode.DISK_FULL: "the scratch or cache folder is full",
    HealthCode.DISK_FAILED: "the node's disk could not be read or written",
    HealthCode.LIBVIRT_FAILED: "libvirt did not start, or did not do what it was asked",
    HealthCode.QEMU_FAILED: "QEMU did not start, or ended by itself",
    HealthCode.EXCHANGE_FAILED: "a helper that brings files into or out of a vm failed",
    HealthCode.VM_INTERFERED: "somebody on the node destroyed a vm, or told its QEMU to end",
    HealthCode.NEVER_CLAIMS: "vms boot here and never claim, while others of the same machine did",
    HealthCode.NETWORK_CUT: "no answer came from the broker, whosever fault that was",
    HealthCode.SLOT_ENDS: "the slot of the batch system ends",
    HealthCode.TOLD_TO_DRAIN: "somebody told the launcher to end",
    HealthCode.LAUNCHER_FAILED: "a bug of the launcher's; its log has the traceback",
}


def node_health() -> str:
    """Return the page."""
    assert _STATES.keys() == set(HealthState), "say what each state means"
    assert _CODES.keys() == set(HealthCode), "say what each code means"
    moves = (
        (code(state), event.value, code(target))
        for state, events in TRANSITIONS.items()
        for event, target in events.items()
    )
    return page(
        "A node's health",
        "What a launcher makes of its node, as `launcher ps`, `broker launchers` and `GET /v1/launchers` show it.",
        table(("state", "the launcher"), ((code(state), meaning) for state, meaning in _STATES.items())),
        "## How it changes",
        f"A pause takes {FIRST_PAUSE_S:g} s at first, and twice as long after each further fault of the node's own, up "
        f"to {LONGEST_PAUSE_S / 60:g} min; a vm that claims and ends without a fault of the node's makes the next one "
        f"short again. {NEVER_CLAIMS_LIMIT} vms in a row that never claim, of machines that did claim, take the node "
        "out. What is nobody's fault makes the first pause, each time; so does a QEMU that ended in mid-run, which its "
        "guest may have had a part in.",
        table(("from", "when", "to"), moves),
        "## Codes",
        table(
            ("code", "what it says", "whose fault"),
            ((code(each), _CODES[each], fault.value) for each, fault in FAULTS.items()),
        ),
    )

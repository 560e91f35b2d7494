"""What a launcher makes of its node: whether it asks for items, and for how many at once.

A sick node that asks again and again burns item after item, quicker than a sound one works. So an ending that is the
node's fault makes it pause, longer each time; behind the pause one vm goes first, the canary, and the others follow
once it has claimed. A node on which nothing ever fails but no vm comes to its claim, while vms of the same machines do
elsewhere, takes itself out and tries one vm from time to time.

What is nobody's fault here, an image source that is away, makes it pause too, but never longer: whoever owns the
machine must not take the node from the others.

Pure: it is told what happened, and at what second of a steady clock.
"""

from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from broker.wire.launchers import Health
from broker.wire.states import HealthCode, HealthState, Verdict
from launcher.node.verdicts import Ending

FIRST_PAUSE_S: Final = 10.0
LONGEST_PAUSE_S: Final = 600.0
NEVER_CLAIMS_LIMIT: Final = 3
"""So many vms in a row without a claim, of machines that did claim: they have one thing in common, the node."""
EXCLUDED_PAUSE_S: Final = 1_800.0


class Fault(Enum):
    """Whose fault an ending with a code is, and so what it does to the offers."""

    NODES = "the node's: each pause is twice the one before"
    NOBODYS = "nobody's here: the first pause, each time"
    NONE = "no fault"


FAULTS: Final[dict[HealthCode, Fault]] = {
    HealthCode.IMAGE_SOURCE_AWAY: Fault.NOBODYS,
    HealthCode.IMAGE_CACHE_FAILED: Fault.NODES,
    HealthCode.DISK_FULL: Fault.NODES,
    HealthCode.DISK_FAILED: Fault.NODES,
    HealthCode.LIBVIRT_FAILED: Fault.NODES,
    HealthCode.QEMU_FAILED: Fault.NODES,
    HealthCode.EXCHANGE_FAILED: Fault.NODES,
    HealthCode.VM_INTERFERED: Fault.NODES,
    HealthCode.NEVER_CLAIMS: Fault.NODES,
    # Whose outage it was, the node's or the broker's, no launcher can tell.
    HealthCode.NETWORK_CUT: Fault.NOBODYS,
    HealthCode.SLOT_ENDS: Fault.NONE,
    HealthCode.TOLD_TO_DRAIN: Fault.NONE,
    HealthCode.LAUNCHER_FAILED: Fault.NODES,
}


class Event(Enum):
    """What happens to a node's health."""

    CLAIMED = "a vm claims its item"
    FAULT = "a vm ends by a fault that makes the node pause"
    UNCLAIMED = "a vm ends without a claim, while others of its machine did claim"
    NEVER_CLAIMS = f"{NEVER_CLAIMS_LIMIT} vms in a row end without a claim, while others of their machines did claim"
    PAUSE_OVER = "the pause is over"
    DRAIN = "the launcher is told to end, or its slot ends"


TRANSITIONS: Final[dict[HealthState, dict[Event, HealthState]]] = {
    HealthState.HEALTHY: {
        Event.FAULT: HealthState.BACKING_OFF,
        Event.NEVER_CLAIMS: HealthState.EXCLUDED,
        Event.DRAIN: HealthState.DRAINING,
    },
    HealthState.BACKING_OFF: {
        Event.PAUSE_OVER: HealthState.CANARY,
        Event.NEVER_CLAIMS: HealthState.EXCLUDED,
        Event.DRAIN: HealthState.DRAINING,
    },
    HealthState.CANARY: {
        Event.CLAIMED: HealthState.HEALTHY,
        Event.FAULT: HealthState.BACKING_OFF,
        Event.UNCLAIMED: HealthState.BACKING_OFF,
        Event.NEVER_CLAIMS: HealthState.EXCLUDED,
        Event.DRAIN: HealthState.DRAINING,
    },
    HealthState.EXCLUDED: {
        Event.CLAIMED: HealthState.HEALTHY,
        Event.DRAIN: HealthState.DRAINING,
    },
    HealthState.DRAINING: {},
}
"""An event that a state does not name leaves it as it is."""

_UNCLAIMED = Ending(
    Verdict.NEVER_CLAIMED,
    "vms boot here and never claim, while others of the same machines did elsewhere",
    HealthCode.NEVER_CLAIMS,
)


class NodeHealth:
    """One node's health, moved by events; every `now_s` is of the same steady clock and never runs back.

    Attributes:
        state: what it is.
        faults: ends of vms in a row that were the node's fault.
    """

    def __init__(self, now_s: float) -> None:
        self.state = HealthState.HEALTHY
        self.faults = 0
        self._since_s = now_s
        self._retry_s: float | None = None
        self._pauses = 0
        self._unclaimed = 0
        self._reason: Ending | None = None
        self._running: dict[str, bool] = {}
        self._canary: str | None = None

    def admits(self, now_s: float) -> bool:
        """Tell whether one more vm may be taken now."""
        self._tick(now_s)
        match self.state:
            case HealthState.HEALTHY:
                return True
            case HealthState.CANARY:
                return self._canary is None
            case HealthState.EXCLUDED:
                return self._canary is None and self._retry_s is not None and now_s >= self._retry_s
            case HealthState.BACKING_OFF | HealthState.DRAINING:
                return False

    def wait_s(self, now_s: float) -> float | None:
        """Return the seconds until `admits` may change by time alone; None when only an event changes it."""
        if self._retry_s is None or self._canary is not None:
            return None
        if now_s >= self._retry_s:
            return 0.0 if self.state is HealthState.BACKING_OFF else None
        return self._retry_s - now_s

    def taken(self, vm: str, now_s: float) -> None:
        """Note that a vm was taken; the first one after a pause is the canary."""
        self._tick(now_s)
        self._running[vm] = False
        if self.state in {HealthState.CANARY, HealthState.EXCLUDED} and self._canary is None:
            self._canary = vm

    def claimed(self, vm: str, now_s: float) -> None:
        """Note that a vm claimed its item. To be told again changes nothing."""
        self._tick(now_s)
        if self._running.get(vm, True):
            return
        self._running[vm] = True
        self._unclaimed = 0
        self._happen(Event.CLAIMED, now_s)

    def ended(self, vm: str, ending: Ending, now_s: float, *, machine_claimed: bool) -> None:
        """Note a vm's end; `machine_claimed` tells whether some vm of its machine has ever claimed."""
        self._tick(now_s)
        has_claimed = self._running.pop(vm)
        was_canary = vm == self._canary
        self._note_end(ending, now_s, has_claimed=has_claimed, machine_claimed=machine_claimed)
        if was_canary:
            self._canary = None
            has_shown = machine_claimed if ending.verdict is Verdict.NEVER_CLAIMED else _fault(ending) is not Fault.NONE
            if self.state is HealthState.EXCLUDED and has_shown:
                self._retry_s = now_s + EXCLUDED_PAUSE_S

    def drained(self, ending: Ending, now_s: float) -> None:
        """Note that the launcher takes nothing more, and why."""
        if self.state is not HealthState.DRAINING:
            self._reason = ending
            self._happen(Event.DRAIN, now_s)

    def told(self, now_s: float, now: datetime) -> Health:
        """Return what is told of it; `now` is the time of day at `now_s`."""
        self._tick(now_s)
        since = now - timedelta(seconds=now_s - self._since_s)
        wait_s = self.wait_s(now_s)
        is_well = self.state is HealthState.HEALTHY
        return Health(
            state=self.state,
            code=None if is_well or self._reason is None else self._reason.code,
            sentence="" if is_well or self._reason is None else self._reason.sentence,
            faults=self.faults,
            since=_shown(since),
            retry_at=None if wait_s is None else _shown(now + timedelta(seconds=wait_s)),
        )

    def _note_end(self, ending: Ending, now_s: float, *, has_claimed: bool, machine_claimed: bool) -> None:
        if ending.verdict is Verdict.NEVER_CLAIMED and not has_claimed:
            if machine_claimed:
                self._note_unclaimed(now_s)
        elif (fault := _fault(ending)) is not Fault.NONE:
            self._note_fault(ending, fault, now_s)
        elif has_claimed:
            self.faults = self._pauses = 0

    def _note_unclaimed(self, now_s: float) -> None:
        self.faults += 1
        self._unclaimed += 1
        if self.state is not HealthState.DRAINING and self._unclaimed >= NEVER_CLAIMS_LIMIT:
            self._reason = _UNCLAIMED
            self._happen(Event.NEVER_CLAIMS, now_s)
        elif self.state is HealthState.CANARY:
            self._reason = _UNCLAIMED
            self._happen(Event.UNCLAIMED, now_s)

    def _note_fault(self, ending: Ending, fault: Fault, now_s: float) -> None:
        """Pause for it; vms that end while the node pauses have one cause, and make the pause no longer."""
        if fault is Fault.NODES:
            self.faults += 1
        if Event.FAULT not in TRANSITIONS[self.state]:
            return
        self._reason = ending
        pauses = self._pauses
        self._happen(Event.FAULT, now_s)
        if fault is Fault.NOBODYS:
            self._retry_s, self._pauses = now_s + FIRST_PAUSE_S, pauses

    def _tick(self, now_s: float) -> None:
        if self.state is HealthState.BACKING_OFF and self._retry_s is not None and now_s >= self._retry_s:
            self._happen(Event.PAUSE_OVER, self._retry_s)

    def _happen(self, event: Event, now_s: float) -> None:
        state = TRANSITIONS[self.state].get(event)
        if state is None:
            return
        self.state, self._since_s, self._retry_s, self._canary = state, now_s, None, None
        match state:
            case HealthState.BACKING_OFF:
                self._retry_s = now_s + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._pauses, 16))
                self._pauses += 1
            case HealthState.EXCLUDED:
                self._retry_s = now_s + EXCLUDED_PAUSE_S
            case HealthState.HEALTHY | HealthState.CANARY | HealthState.DRAINING:
                pass


def _fault(ending: Ending) -> Fault:
    if ending.code is HealthCode.QEMU_FAILED and ending.verdict is Verdict.VM_CRASHED:
        # Its guest may have had a part in it, the node short of memory another.
        return Fault.NOBODYS
    if ending.code is not None:
        return FAULTS[ending.code]
    return Fault.NODES if ending.verdict is Verdict.HOST_ERROR else Fault.NONE


def _shown(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")

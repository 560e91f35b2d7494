"""The vms of one launcher as it sees them itself: for its node's health, for `launcher ps`, for the broker's list."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

from broker.wire.dispatches import DispatchAnswer, VmEnded
from broker.wire.kinds import Message
from broker.wire.states import Phase, Verdict
from launcher.node.verdicts import Ending

NotePhase = Callable[[Phase], None]
"""Told each phase of one vm as it comes, at once and before the broker; `claimed` may come more than once, or never."""

_CLAIMED = frozenset({Verdict.COMPLETED, Verdict.ITEM_FAILED})
"""Verdicts of an item's own: nobody but the guest that claimed it brings them about."""


def ignore_phase(phase: Phase) -> None:
    """Note nothing."""


class Outcome(NamedTuple):
    """What the launcher saw of a vm's end, and the broker's answer; None when it gave none."""

    ending: Ending
    answer: VmEnded | None = None

    @property
    def is_claim_proved(self) -> bool:
        """Whether the verdict that stands shows that the vm had claimed: it may do all its work between two looks."""
        return self.answer is not None and self.answer.verdict in _CLAIMED

    @property
    def machine_claimed(self) -> bool:
        """Whether some vm of this machine's revision has claimed, here or elsewhere."""
        return self.answer is not None and self.answer.machine_claimed


class VmSeen(Message, frozen=True, kw_only=True):
    """One vm, as the state file keeps it. `since` is RFC 3339: when its phase began."""

    dispatch: str
    item: str
    phase: Phase
    since: str
    vcpus: int
    memory_mib: int


class Vms:
    """The vms that are here now, in the order in which they came."""

    def __init__(self) -> None:
        self._seen: dict[str, VmSeen] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, answer: DispatchAnswer, now: datetime) -> None:
        """Note a vm that was taken."""
        self._seen[answer.dispatch] = VmSeen(
            dispatch=answer.dispatch,
            item=answer.item,
            phase=Phase.PREPARING,
            since=now.isoformat(timespec="seconds"),
            vcpus=answer.vcpus,
            memory_mib=answer.memory_mib,
        )

    def note(self, dispatch: str, phase: Phase, now: datetime) -> None:
        """Note a vm's phase, which begins now unless it was noted already."""
        seen = self._seen[dispatch]
        if seen.phase is phase:
            return
        self._seen[dispatch] = VmSeen(
            dispatch=seen.dispatch,
            item=seen.item,
            phase=phase,
            since=now.isoformat(timespec="seconds"),
            vcpus=seen.vcpus,
            memory_mib=seen.memory_mib,
        )

    def remove(self, dispatch: str) -> None:
        """Forget a vm that is gone."""
        del self._seen[dispatch]

    def all(self) -> Iterable[VmSeen]:
        """Return them."""
        return tuple(self._seen.values())
